"""Batch normalisation with either reference's running variance."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Normalises each channel over all other axes: ``[..., c]`` to ``[..., c]``.

    Flax's own module always feeds the running variance with the biased estimate, TensorFlow's
    fused kernel with the unbiased one; hence this one. Statistics are float32. Over a sharded
    batch under ``jit`` they are those of the whole batch.

    Attributes:
      momentum: share of the old running statistics kept at each training step.
      epsilon: added to the variance.
      unbiased: whether the running variance takes the unbiased estimate.
      dtype: of the result.
    """

    momentum: float
    epsilon: float
    unbiased: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        if train:
            axes = tuple(range(x.ndim - 1))
            count = x.size // channels
            mean = jnp.mean(x, axis=axes, dtype=jnp.float32)
            var = jnp.mean(jnp.square(x.astype(jnp.float32) - mean), axis=axes)
            if not self.is_initializing():
                new_var = var * (count / max(count - 1, 1)) if self.unbiased else var
                running_mean.value += (1 - self.momentum) * (mean - running_mean.value)
                running_var.value += (1 - self.momentum) * (new_var - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        multiplier = scale * jax.lax.rsqrt(var + self.epsilon)
        offset = bias - mean * multiplier
        return x * multiplier.astype(self.dtype) + offset.astype(self.dtype)

"""Batch normalisation with either reference's running variance."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax.models.reductions import channel_sums


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
        if not train:
            multiplier = scale * jax.lax.rsqrt(running_var.value + self.epsilon)
            offset = bias - running_mean.value * multiplier
            return x * multiplier.astype(self.dtype) + offset.astype(self.dtype)
        y, mean, var = _normalize(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            count = x.size // channels
            new_var = var * (count / max(count - 1, 1)) if self.unbiased else var
            running_mean.value += (1 - self.momentum) * (mean - running_mean.value)
            running_var.value += (1 - self.momentum) * (new_var - running_var.value)
        return y.astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the batch's own statistics; also returns its mean and (biased) variance.

    Its gradient is written out since it needs two sums over the batch, and nothing else, if the
    normalised input is taken from ``x`` again; derived automatically it took three times as long
    on CPU. No gradient flows through the returned statistics.
    """
    return _normalize_forward(x, scale, bias, epsilon)[0]


def _normalize_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    count = x.size // x.shape[-1]
    mean = channel_sums(x) / count
    var = channel_sums(jnp.square(x.astype(jnp.float32) - mean)) / count
    inverse = jax.lax.rsqrt(var + epsilon)
    multiplier = scale * inverse
    y = x * multiplier.astype(x.dtype) + (bias - mean * multiplier).astype(x.dtype)
    return (y, mean, var), (x, scale, mean, inverse)


def _normalize_backward(
    epsilon: float, residuals: tuple[jax.Array, ...], cotangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = residuals
    dy, count = cotangents[0], x.size // x.shape[-1]
    # Kept whole: fused into each of its three uses, what made dy would be computed three times.
    dy = jax.lax.optimization_barrier(dy).astype(jnp.float32)
    centred = x.astype(jnp.float32) - mean
    dbias = channel_sums(dy)
    dscale = channel_sums(dy * centred) * inverse
    dx = scale * inverse * (dy - dbias / count - centred * (inverse * dscale / count))
    return dx.astype(x.dtype), dscale, dbias


_normalize.defvjp(_normalize_forward, _normalize_backward)

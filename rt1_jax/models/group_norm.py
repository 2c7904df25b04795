"""Group normalisation (Wu & He 2018), fast where images are many and tiny."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class GroupNorm(nn.Module):
    """Normalises each group of channels over one image's positions: ``[n, ..., c]`` to the same.

    What Flax's module computes. Sums over a group's few channels do not vectorise on CPU; as a
    product with a matrix that averages groups they do, and a training step of Gato's patch
    embedding takes half as long. Statistics are float32.

    Attributes:
      groups: of neighbouring channels; a divisor of their number.
      epsilon: added to the variance.
      dtype: of the result.
    """

    groups: int
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        flat = x.astype(jnp.float32).reshape(x.shape[0], -1, channels)  # [n, positions, c]
        centred = flat - self._group_means(flat)
        inverse = jax.lax.rsqrt(self._group_means(jnp.square(centred)) + self.epsilon)
        return (centred * (inverse * scale) + bias).reshape(x.shape).astype(self.dtype)

    def _group_means(self, x: jax.Array) -> jax.Array:
        """``[n, positions, c]`` to ``[n, 1, c]``: each channel has its group's mean."""
        _, positions, channels = x.shape
        size = channels // self.groups
        same_group = np.kron(np.eye(self.groups), np.ones((size, size))).astype(np.float32)
        weights = same_group / (size * positions)  # [c, c]
        # Statistics need float32 products where an accelerator would round them by default.
        return jnp.matmul(x.sum(axis=1), weights, precision=jax.lax.Precision.HIGHEST)[:, None]

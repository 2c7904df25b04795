"""Sums over images, rows and columns, which training needs for every normalised layer."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from rt1_jax.platforms import platform


def channel_sums(x: jax.Array) -> jax.Array:
    """Sums over all axes but the last: ``[n, ..., c]`` to float32 ``[c]``.

    XLA's CPU reduction over leading axes does not vectorise once a producer is fused into it (10
    times slower than reading the array once). There, groups of images are first added
    elementwise, which does vectorise, and the small rest is a product with ones.
    """
    n, channels = x.shape[0], x.shape[-1]
    groups = math.gcd(n, 8)
    if platform() != "cpu" or groups == 1:
        return jnp.sum(x, axis=tuple(range(x.ndim - 1)), dtype=jnp.float32)
    grouped = x.astype(jnp.float32).reshape(groups, n // groups, -1)
    partial = grouped[0]
    for group in range(1, groups):
        partial = partial + grouped[group]
    rows = partial.reshape(-1, channels)
    return (jnp.ones((1, rows.shape[0]), jnp.float32) @ rows)[0]

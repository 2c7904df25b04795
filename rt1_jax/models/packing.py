"""Neighbouring images side by side in the channels, for accelerators that pad few channels to many.

An array ``[n, h, w, c]`` becomes ``[n / p, h, w, p * c]``, image by image. Every layer has an equal
there: a depthwise kernel is repeated, a dense one becomes block-diagonal (p times the products, p²
of the blocks being zero but for p: matrix units have them to spare where memory is what is short).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def pack(x: jax.Array, packed: int) -> jax.Array:
    """``[n, h, w, c]`` to ``[n / packed, h, w, packed * c]``."""
    if packed == 1:
        return x
    n, height, width, channels = x.shape
    if n % packed:
        raise ValueError(
            f"{n} images cannot be packed by {packed}: step.packed_images must divide their number"
        )
    split = x.reshape(n // packed, packed, height, width, channels)
    return split.transpose(0, 2, 3, 1, 4).reshape(n // packed, height, width, packed * channels)


def unpack(x: jax.Array, packed: int) -> jax.Array:
    """What :func:`pack` was given."""
    if packed == 1:
        return x
    rows, height, width, channels = x.shape
    split = x.reshape(rows, height, width, packed, channels // packed)
    return split.transpose(0, 3, 1, 2, 4).reshape(-1, height, width, channels // packed)


def pack_rows(x: jax.Array, packed: int) -> jax.Array:
    """Numbers of each image, ``[n, c]``, to where its channels are: ``[n / packed, 1, 1, ...]``."""
    return x.reshape(x.shape[0] // packed, 1, 1, packed * x.shape[-1])


def pack_depthwise(kernel: jax.Array, packed: int) -> jax.Array:
    """``[k, k, c]`` to ``[k, k, packed * c]``."""
    return kernel if packed == 1 else jnp.tile(kernel, (1, 1, packed))


def pack_dense(kernel: jax.Array, packed: int) -> jax.Array:
    """``[..., c, f]`` to ``[..., packed * c, packed * f]``, block-diagonal."""
    if packed == 1:
        return kernel
    *lead, inputs, outputs = kernel.shape
    eye = jnp.eye(packed, dtype=kernel.dtype)
    blocks = kernel[..., None, :, None, :] * eye[:, None, :, None]  # [..., p, c, p, f]
    return blocks.reshape(*lead, packed * inputs, packed * outputs)

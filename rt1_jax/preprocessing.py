"""From camera pixels to the network's input: scale, resize, normalise, all on the device.

Every function is pure ``jax.numpy`` and runs inside ``jit``; images cross to the device as uint8.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.letterbox import letterbox
from rt1_jax.platforms import platform

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TRAIN_CROP_MARGIN = (20, 50)
"""Rows and columns of zeros that the original's training crop pads on each side (256x320)."""


def scale_uint8(images: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """uint8 ``[..., h, w, 3]`` to floats in 0..1, by multiplying with float32(1/255)."""
    return images.astype(dtype) * np.float32(1 / 255)


def resize_images(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear resize with half-pixel centres and no antialiasing, as RT-1 was trained with.

    Args:
      images: floats ``[..., h, w, 3]``.
      size: (height, width) in pixels.

    Returns:
      floats ``[..., size[0], size[1], 3]``; the very input where the size already fits.
    """
    if images.shape[-3:-1] == tuple(size):
        return images
    if platform() == "tpu":
        return _resize_by_products(images, size)
    rows_from, rows_to, down = _bilinear(images.shape[-3], size[0])
    columns_from, columns_to, across = _bilinear(images.shape[-2], size[1])
    # Columns first, then rows, each as a + (b - a) * weight: the reference's order of rounding.
    left, right = images[..., columns_from, :], images[..., columns_to, :]  # [..., h, w', c]
    images = left + (right - left) * across[:, None].astype(images.dtype)
    top, bottom = images[..., rows_from, :, :], images[..., rows_to, :, :]  # [..., h', w', c]
    return top + (bottom - top) * down[:, None, None].astype(images.dtype)


def resize_with_pad(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Fits camera frames between black bars, as the frames that RT-1-X was trained on were.

    The ratio of the sides is kept; :func:`resize_images`, then rounded down to whole numbers.

    Args:
      images: uint8 ``[..., h, w, 3]``.
      size: (height, width) in pixels; RT-1-X's is (256, 320).

    Returns:
      uint8 ``[..., *size, 3]``.

    Raises:
      ValueError: the images are not uint8.
    """
    if images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype} {images.shape}, expected uint8 [..., h, w, 3]")
    height, width, top, left = letterbox(images.shape[-3], images.shape[-2], size)
    inner = resize_images(jnp.asarray(images, jnp.float32), (height, width)).astype(jnp.uint8)
    bars = ((top, size[0] - top - height), (left, size[1] - left - width), (0, 0))
    return jnp.pad(inner, (*[(0, 0)] * (inner.ndim - 3), *bars))


def normalize_images(images: jax.Array) -> jax.Array:
    """(x - mean) / std a channel with the ImageNet constants; ``[..., h, w, 3]`` in 0..1."""
    mean = np.asarray(IMAGENET_MEAN, np.float32)
    return (images - mean) * (1 / np.asarray(IMAGENET_STD, np.float32))


def preprocess_images(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """uint8 ``[..., h, w, 3]`` of any size to normalised float32 ``[..., *size, 3]``."""
    return normalize_images(resize_images(scale_uint8(images), size))


def append_coordinates(images: jax.Array) -> jax.Array:
    """Appends each pixel's x and y, from -1 to 1: ``[..., h, w, c]`` to ``[..., h, w, c + 2]``."""
    height, width = images.shape[-3:-1]
    y, x = jnp.meshgrid(jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing="ij")
    grid = jnp.stack([x, y], axis=-1).astype(images.dtype)  # [h, w, 2]
    grid = jnp.broadcast_to(grid, (*images.shape[:-3], *grid.shape))
    return jnp.concatenate([images, grid], axis=-1)


def shift_crop(
    images: jax.Array, offset: jax.Array, margin: tuple[int, int] = TRAIN_CROP_MARGIN
) -> jax.Array:
    """Pads with zeros and crops back to the size, so that the content moves.

    Args:
      images: ``[..., h, w, c]``, any dtype.
      offset: int ``[2]``, where the crop starts in the padded image, (y, x), each in
        ``0 .. 2 * margin``; ``margin`` itself is the unmoved image.
      margin: rows and columns padded on each side.

    Returns:
      the moved images, of the input's shape: the original's training augmentation.
    """
    pads = [(0, 0)] * (images.ndim - 3) + [(margin[0],) * 2, (margin[1],) * 2, (0, 0)]
    start: list[Any] = [0] * (images.ndim - 3) + [offset[0], offset[1], 0]
    return jax.lax.dynamic_slice(jnp.pad(images, pads), start, images.shape)


def random_shift_crop(
    key: jax.Array, images: jax.Array, margin: tuple[int, int] = TRAIN_CROP_MARGIN
) -> jax.Array:
    """:func:`shift_crop` by one random offset for all of ``images``, as the original does."""
    highest = jnp.asarray([2 * margin[0] + 1, 2 * margin[1] + 1])
    return shift_crop(images, jax.random.randint(key, (2,), 0, highest), margin)


def _resize_by_products(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The same as products with matrices of two weights a row, which needs no gathering."""

    def weights(length: int, target: int) -> np.ndarray:
        first, second, share = _bilinear(length, target)
        matrix, rows = np.zeros((target, length), np.float32), np.arange(target)
        np.add.at(matrix, (rows, first), 1 - share)
        np.add.at(matrix, (rows, second), share)
        return matrix  # [target, length]

    across = weights(images.shape[-2], size[1]).astype(images.dtype)
    down = weights(images.shape[-3], size[0]).astype(images.dtype)
    exact = jax.lax.Precision.HIGHEST
    images = jnp.einsum("...hwc,vw->...hvc", images, across, precision=exact)
    return jnp.einsum("...hvc,gh->...gvc", images, down, precision=exact)


def _bilinear(length: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each target pixel: the two source pixels around its centre, and the second's weight."""
    scale = np.float32(length) / np.float32(target)
    centre = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    below = np.floor(centre)
    first = np.clip(below, 0, length - 1).astype(np.int32)
    second = np.clip(below + 1, 0, length - 1).astype(np.int32)
    return first, second, centre - below

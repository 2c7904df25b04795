"""Frames to one size, on the host: for data of several sizes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rt1_jax.letterbox import letterbox

FITS = ("stretch", "pad")


def resize_frame(image: np.ndarray, size: tuple[int, int], fit: str = "stretch") -> np.ndarray:
    """uint8 [h, w, 3] to [*size, 3]: bilinear, antialiased where it becomes smaller.

    Args:
      image: the frame.
      size: (height, width).
      fit: "stretch" fills it, whatever becomes of the ratio of the sides; "pad" keeps the ratio,
        with black bars where RT-1-X's training data have them (made without antialiasing: see
        `rt1_jax.preprocessing.resize_with_pad`).
    """
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    if fit == "stretch":
        return _resized(image, height, width)
    inner_height, inner_width, top, left = letterbox(image.shape[0], image.shape[1], size)
    found = np.zeros((height, width, 3), np.uint8)
    inner = _resized(image, inner_height, inner_width)
    found[top : top + inner_height, left : left + inner_width] = inner
    return found


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

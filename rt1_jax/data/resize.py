"""Frames to one size, on the host: for data of several sizes."""

from __future__ import annotations

import numpy as np
from PIL import Image


FITS = ("stretch", "pad")


def resize_frame(image: np.ndarray, size: tuple[int, int], fit: str = "stretch") -> np.ndarray:
    """uint8 [h, w, 3] to [*size, 3]: bilinear, antialiased where it becomes smaller.

    Args:
      image: the frame.
      size: (height, width).
      fit: "stretch" fills it, whatever becomes of the ratio of the sides; "pad" keeps the ratio, with
        black bars, as RT-1-X's training data were made.
    """
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    if fit == "stretch":
        return _resized(image, height, width)
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = _resized(
        image, max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    )
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    found = np.zeros((height, width, 3), np.uint8)
    found[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return found


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

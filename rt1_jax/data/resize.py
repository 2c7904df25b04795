"""Frames to one size, on the host: for data of several sizes."""

from __future__ import annotations

import numpy as np
from PIL import Image


def resize_frame(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [h, w, 3] to [*size, 3]: bilinear, antialiased where it becomes smaller."""
    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

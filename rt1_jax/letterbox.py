"""Where a frame lies between black bars, when it is fitted into another ratio of sides."""

from __future__ import annotations

import numpy as np


def letterbox(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest box of a frame's own ratio inside another frame.

    Sides are rounded down in float32, as the Open X-Embodiment pipeline does it.

    Args:
      height, width: of the frame, in pixels.
      size: (height, width) of what it is fitted into.

    Returns:
      height and width of the frame in it, and the pixels above and left of it.
    """
    one = np.float32
    ratio = max(one(width) / one(size[1]), one(height) / one(size[0]))
    inner = one(height) / ratio, one(width) / ratio
    top, left = (int((one(whole) - part) / 2) for whole, part in zip(size, inner, strict=True))
    return max(1, int(inner[0])), max(1, int(inner[1])), max(0, top), max(0, left)

"""Where a point of the tabletop appears in the camera's picture."""

from __future__ import annotations

import math

import numpy as np

from rt1_jax.envs.scene import CAMERA_AIM, CAMERA_DISTANCE, CAMERA_HALF_WIDTH, CAMERA_PITCH


def to_pixels(point: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Projects a point.

    Args:
      point: [..., 3] in the base frame, metres.
      image_size: (height, width) of the frame.

    Returns:
      [..., 2], (row, column) in pixels from the upper left corner; may lie outside of the frame.
    """
    sin, cos = math.sin(CAMERA_PITCH), math.cos(CAMERA_PITCH)
    forward, right, up = np.array([[cos, 0.0, -sin], [0.0, -1.0, 0.0], [sin, 0.0, cos]])
    eye = np.asarray(CAMERA_AIM) - CAMERA_DISTANCE * forward
    away = np.asarray(point) - eye
    height, width = image_size
    # Pixels a unit of slope: the picture's half height shows CAMERA_HALF_WIDTH at the aim.
    scale = height / 2 * CAMERA_DISTANCE / CAMERA_HALF_WIDTH / (away @ forward)
    return np.stack([height / 2 - scale * (away @ up), width / 2 + scale * (away @ right)], -1)

"""What is the case on the table, read from the physics."""

from __future__ import annotations

import dataclasses

import numpy as np

from rt1_jax.envs.scene import KNOB_GRASP_HEIGHT, KNOB_OFFSET


@dataclasses.dataclass(frozen=True)
class SceneState:
    """A snapshot in the world frame unless said otherwise; metres and radians.

    Attributes:
      positions: [objects, 3], the objects' frames.
      up_axes: [objects, 3], the direction of each object's own z axis.
      held: [objects] bool, both fingers touch the object.
      touched: [objects] bool, a finger or the palm touches it.
      knob_held: both fingers touch the drawer's knob.
      opening: between the fingers.
      hand: [3], where the tool centre really is.
      drawer_opening: how far the drawer is out.
      cabinet: (x, y, yaw) of the cabinet's front.
      bowl: [2] or None.
      base: (x, y, yaw) of the base.
      command_hand: [3], commanded tool centre in the base frame.
      command_rotation: [3], commanded roll, pitch, yaw in the base frame.
      command_closed: commanded closedness of the gripper, -1 open to +1 closed.
    """

    positions: np.ndarray
    up_axes: np.ndarray
    held: np.ndarray
    touched: np.ndarray
    knob_held: bool
    opening: float
    hand: np.ndarray
    drawer_opening: float
    cabinet: tuple[float, float, float]
    bowl: np.ndarray | None
    base: tuple[float, float, float]
    command_hand: np.ndarray
    command_rotation: np.ndarray
    command_closed: float

    @property
    def knob(self) -> np.ndarray:
        """[3], the knob's grasping point."""
        ahead = np.array([-self.drawer_opening - KNOB_OFFSET, 0.0, KNOB_GRASP_HEIGHT])
        return from_frame(ahead, self.cabinet)

    def in_base(self, point: np.ndarray) -> np.ndarray:
        """A world point [2] or [3] in the base frame."""
        return to_frame(point, self.base)

    def in_cabinet(self, point: np.ndarray) -> np.ndarray:
        """A world point [2] or [3] in the cabinet's frame (x into the cabinet)."""
        return to_frame(point, self.cabinet)


def to_frame(point: np.ndarray, frame: tuple[float, float, float]) -> np.ndarray:
    """A point [2] or [3] of the outer frame, seen from a frame at (x, y, yaw)."""
    x, y, yaw = frame
    cos, sin = np.cos(yaw), np.sin(yaw)
    dx, dy = point[0] - x, point[1] - y
    flat = (cos * dx + sin * dy, -sin * dx + cos * dy)
    return np.array([*flat, *point[2:]])


def from_frame(point: np.ndarray, frame: tuple[float, float, float]) -> np.ndarray:
    """The inverse of `to_frame`."""
    x, y, yaw = frame
    cos, sin = np.cos(yaw), np.sin(yaw)
    flat = (x + cos * point[0] - sin * point[1], y + sin * point[0] + cos * point[1])
    return np.array([*flat, *point[2:]])

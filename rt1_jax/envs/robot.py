"""The robot's command state: where base, hand and fingers are told to be.

An action moves the command; the physics follows it. Hand pose and displacements are in the base
frame. The hand's orientation is Rz(yaw) · Ry(pitch) · Rx(roll); at zero it points straight down
with the fingers opening sideways (along y). With pitch -90° it points forward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from rt1_jax.actions import TABLETOP
from rt1_jax.envs.scene import REACH_CENTRE

REACH_LOW = np.array([REACH_CENTRE - 0.18, -0.22, 0.026])
REACH_HIGH = np.array([REACH_CENTRE + 0.18, 0.22, 0.28])
"""The arm's reach: commands for the tool centre are clipped to this box of the base frame."""
ROTATION_LIMIT = np.array([np.pi / 2, np.pi / 2, np.pi / 2])
BASE_LOW = np.array([-0.25, -0.35, -np.pi / 2])
BASE_HIGH = np.array([0.35, 0.75, np.pi / 2])
"""Where the base can go: x, y, yaw in the world."""

DEAD_BAND = 0.005
"""Motion commands below this fraction of their bound are read as zero.

With an even number of bins no token means zero; the two nearest to it mean ±1/255 of the bound.
Without a dead band a robot told to stand still would creep and turn.
"""

GRASP_HEIGHT = 0.028
"""The tool centre's height for grasping; the finger tips are then 1 cm above the table."""

_BOUNDS = {field.name: np.asarray(field.high) for field in TABLETOP.fields}


@dataclasses.dataclass(frozen=True)
class RobotCommand:
    """Base (x, y, yaw), hand [x, y, z], rotation [roll, pitch, yaw], closedness -1 to +1."""

    base: np.ndarray
    hand: np.ndarray
    rotation: np.ndarray
    closed: float

    def moved(self, action: Mapping[str, np.ndarray]) -> RobotCommand:
        """The command after one action of `rt1_jax.actions.TABLETOP`, within all limits."""
        base = self.base.copy()
        cos, sin = np.cos(base[2]), np.sin(base[2])
        dx, dy = _motion(action, "base_displacement_vector")
        base[0] += cos * dx - sin * dy
        base[1] += sin * dx + cos * dy
        base[2] += _motion(action, "base_displacement_vertical_rotation")[0]
        hand = self.hand + _motion(action, "world_vector")
        rotation = self.rotation + _motion(action, "rotation_delta")
        closed = float(np.clip(action["gripper_closedness_action"][0], -1.0, 1.0))
        return RobotCommand(
            np.clip(base, BASE_LOW, BASE_HIGH),
            np.clip(hand, REACH_LOW, REACH_HIGH),
            np.clip(rotation, -ROTATION_LIMIT, ROTATION_LIMIT),
            closed,
        )

    def between(self, other: RobotCommand, fraction: float) -> RobotCommand:
        """A command on the straight way to another one."""

        def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return a + fraction * (b - a)

        return RobotCommand(
            mix(self.base, other.base),
            mix(self.hand, other.hand),
            mix(self.rotation, other.rotation),
            other.closed,
        )

    def hand_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """World position [3] and quaternion [4] (w, x, y, z) of the hand."""
        x, y, yaw = self.base
        cos, sin = np.cos(yaw), np.sin(yaw)
        position = np.array(
            [
                x + cos * self.hand[0] - sin * self.hand[1],
                y + sin * self.hand[0] + cos * self.hand[1],
                self.hand[2],
            ]
        )
        roll, pitch, turn = self.rotation
        return position, quaternion(roll, pitch, turn + yaw)

    def base_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """World position [3] and quaternion [4] of the base."""
        return np.array([self.base[0], self.base[1], 0.0]), quaternion(0.0, 0.0, self.base[2])


def quaternion(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Rz(yaw) · Ry(pitch) · Rx(roll) as (w, x, y, z)."""
    cr, cp, cy = np.cos(roll / 2), np.cos(pitch / 2), np.cos(yaw / 2)
    sr, sp, sy = np.sin(roll / 2), np.sin(pitch / 2), np.sin(yaw / 2)
    return np.array(
        [
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ]
    )


def _motion(action: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    bound = _BOUNDS[name]
    value = np.clip(np.asarray(action[name], float), -bound, bound)
    return np.where(np.abs(value) < DEAD_BAND * bound, 0.0, value)

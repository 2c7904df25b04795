"""What the robot can be asked to do, and when it counts as done.

Every rule reads the physical state alone. The policy's own "terminate" is recorded elsewhere.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from rt1_jax.envs import scene
from rt1_jax.envs.objects import SHAPES, ObjectType
from rt1_jax.envs.state import SceneState

SKILLS = ("pick", "move_near", "knock", "upright", "open_drawer", "close_drawer", "place_into")
"""Skills after the RT-1 paper's list (Brohan et al. 2022, table 1)."""

RECEPTACLES = ("bowl", "drawer")

HOLD_STEPS = 3
"""Consecutive control steps for which the goal must hold before the episode ends."""

STEP_LIMITS = {
    "pick": 30,
    "move_near": 45,
    "knock": 30,
    "upright": 45,
    "open_drawer": 50,
    "close_drawer": 50,
    "place_into": 70,
}
"""Control steps after which an episode is cut off: 2.5 to 3 times what the expert takes."""

PICK_HEIGHT = 0.06
"""pick: the object is held, at least so far (m) above where it rested."""
NEAR_DISTANCE = 0.12
"""move_near: largest distance (m) between the two objects' centres."""
REFERENCE_SHIFT = 0.05
"""move_near: how far (m) the reference may have been pushed."""
RESTING_HEIGHT = 0.015
"""An object rests on the table if its centre is at most so far (m) above its resting height."""
KNOCKED_COSINE = 0.5
"""knock: the object's axis is at least 60° from the vertical."""
UPRIGHT_COSINE = float(np.cos(np.deg2rad(15)))
"""upright: the object's axis is at most 15° from the vertical."""
DRAWER_OPEN = 0.10
"""open_drawer: smallest extension (m)."""
DRAWER_CLOSED = 0.015
"""close_drawer: largest extension (m)."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One request.

    Attributes:
      skill: one of `SKILLS`.
      target: slot of the object to handle; None for the drawer skills.
      reference: move_near: slot of the object to come near to.
      receptacle: place_into: "bowl" or "drawer".
    """

    skill: str
    target: int | None = None
    reference: int | None = None
    receptacle: str | None = None

    def to_json(self, objects: tuple[ObjectType, ...]) -> dict[str, Any]:
        """Plain values, with names for slots."""
        return {
            "skill": self.skill,
            "target": None if self.target is None else objects[self.target].name,
            "reference": None if self.reference is None else objects[self.reference].name,
            "receptacle": self.receptacle,
        }


def admits(skill: str, target: ObjectType) -> bool:
    """Whether the skill makes sense for the object: only cans and bottles topple and stand up."""
    if skill in ("knock", "upright"):
        return SHAPES[target.shape].topples
    return skill in ("pick", "move_near", "place_into")


def succeeded(
    task: Task, objects: tuple[ObjectType, ...], now: SceneState, start: SceneState
) -> bool:
    """Whether the physical goal of the task holds.

    Args:
      task: what was asked for.
      objects: what each slot holds.
      now: the state now.
      start: the state at the beginning of the episode.
    """
    if task.skill == "open_drawer":
        return now.drawer_opening >= DRAWER_OPEN
    if task.skill == "close_drawer":
        return now.drawer_opening <= DRAWER_CLOSED
    target = task.target
    assert target is not None
    height = now.positions[target, 2]
    released = not now.touched[target]
    standing = objects[target].geometry.half_height
    if task.skill == "pick":
        return bool(now.held[target] and height - start.positions[target, 2] >= PICK_HEIGHT)
    if task.skill == "move_near":
        other = task.reference
        assert other is not None
        gap = np.linalg.norm(now.positions[target, :2] - now.positions[other, :2])
        shift = np.linalg.norm(now.positions[other] - start.positions[other])
        resting = height <= standing + RESTING_HEIGHT
        near = gap <= NEAR_DISTANCE and shift <= REFERENCE_SHIFT
        return bool(near and resting and released)
    if task.skill == "knock":
        lying = abs(now.up_axes[target, 2]) <= KNOCKED_COSINE
        return bool(lying and height <= objects[target].geometry.radius + RESTING_HEIGHT)
    if task.skill == "upright":
        up = now.up_axes[target, 2]
        cosine = up if objects[target].geometry.has_top else abs(up)
        return bool(cosine >= UPRIGHT_COSINE and height <= standing + RESTING_HEIGHT and released)
    return bool(released and _inside(task, now))


def _inside(task: Task, now: SceneState) -> bool:
    """place_into: the object's centre is within the walls and below their top by its radius."""
    position = now.positions[task.target]
    if task.receptacle == "bowl":
        if now.bowl is None:
            return False
        distance = np.linalg.norm(position[:2] - now.bowl)
        return bool(
            distance <= scene.BOWL_RADIUS - 0.01 and position[2] <= scene.BOWL_HEIGHT + 0.03
        )
    inside = now.in_cabinet(position) - (-now.drawer_opening, 0.0, 0.0)
    depth, width = scene.DRAWER_INNER
    return bool(
        0.0 <= inside[0] <= depth + 0.01
        and abs(inside[1]) <= width / 2
        and inside[2] <= scene.DRAWER_HEIGHT + 0.01
    )

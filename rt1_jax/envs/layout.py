"""Where things lie at the beginning of an episode.

Objects are thrown at random until every rule holds: the open gripper can go down around each of
them, and the task can be done without clearing something away first.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from rt1_jax.envs.objects import ObjectType
from rt1_jax.envs.robot import REACH_LOW
from rt1_jax.envs.scene import DRAWER_TRAVEL, REACH_CENTRE
from rt1_jax.envs.splits import Look
from rt1_jax.envs.tasks import NEAR_DISTANCE, Task

AREA_LOW = np.array([REACH_CENTRE - 0.14, -0.18])
AREA_HIGH = np.array([REACH_CENTRE + 0.14, 0.18])
"""Where objects' centres lie, in the base's home frame."""

SPACING = np.array([0.085, 0.115])
"""Semi-axes (x, y) of the ellipse around an object that holds no other object's centre: the open
fingers reach 6 cm to either side of an object and 1.5 cm to its front and back."""
BOWL_SPACING = np.array([0.120, 0.138])
"""The same between bowl and objects."""
LYING_SPACING = np.array([0.125, 0.125])
"""The same around an object that lies on its side."""

NEAR_OFFSET = np.array([-0.085, 0.0])
"""move_near: the expert puts X here, seen from Y: on the robot's side, so that the open fingers
beside X do not meet Y."""
KNOCK_ROOM = 0.07
"""knock: the closed hand goes down so far in front of X."""
_START_DISTANCE = NEAR_DISTANCE + 0.06

_TRIES, _RESTARTS = 40, 2000


@dataclasses.dataclass(frozen=True)
class Layout:
    """The initial arrangement, in the world frame; metres and radians.

    Attributes:
      positions: [objects, 2].
      yaws: [objects]; a lying object's top points there.
      lying: [objects] bool.
      bowl: [2], or None where there is no bowl.
      cabinet: (x, y, yaw) of the cabinet's front.
      drawer_opening: how far the drawer is out.
      hand: [3], tool centre.
      look: table look and light.
    """

    positions: np.ndarray
    yaws: np.ndarray
    lying: np.ndarray
    bowl: np.ndarray | None
    cabinet: tuple[float, float, float]
    drawer_opening: float
    hand: np.ndarray
    look: Look


def sample_layout(
    rng: np.random.Generator, task: Task, objects: tuple[ObjectType, ...], look: Look
) -> Layout:
    """Draws an arrangement in which the task can be done."""
    count = len(objects)
    lying = np.zeros(count, bool)
    if task.skill == "upright":
        lying[task.target] = True
    with_bowl = task.receptacle == "bowl" or (count <= 4 and bool(rng.random() < 0.5))
    yaws = _yaws(rng, objects, lying)
    positions, bowl = _place(rng, task, lying, yaws, with_bowl)
    hand = rng.uniform((REACH_CENTRE - 0.06, -0.08, 0.13), (REACH_CENTRE + 0.06, 0.08, 0.18))
    front = rng.uniform((0.42, 0.46), (0.50, 0.51))
    cabinet = (float(front[0]), float(front[1]), float(rng.uniform(0.0, 0.6)))
    opening = _drawer_opening(rng, task)
    return Layout(positions, yaws, lying, bowl, cabinet, opening, hand, look)


def apart(a: np.ndarray, b: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Whether points [..., 2] keep out of each other's ellipse of these semi-axes."""
    return (((a - b) / spacing) ** 2).sum(-1) >= 1.0


def _drawer_opening(rng: np.random.Generator, task: Task) -> float:
    if task.skill == "open_drawer":
        return 0.0
    if task.skill == "close_drawer" or task.receptacle == "drawer":
        return float(rng.uniform(0.125 if task.receptacle else 0.08, DRAWER_TRAVEL))
    return float(rng.uniform(0.08, DRAWER_TRAVEL)) if rng.random() < 0.5 else 0.0


def _yaws(
    rng: np.random.Generator, objects: tuple[ObjectType, ...], lying: np.ndarray
) -> np.ndarray:
    """Blocks are turned a little; a lying object's top points away from the robot, within 50°."""
    slight = rng.uniform(-0.2, 0.2, size=len(objects))
    wide = rng.uniform(-0.87, 0.87, size=len(objects))
    square = np.array([kind.shape == "block" for kind in objects])
    return np.where(lying, wide, np.where(square, slight, 0.0))


def _place(
    rng: np.random.Generator, task: Task, lying: np.ndarray, yaws: np.ndarray, with_bowl: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    for _ in range(_RESTARTS):
        bowl = rng.uniform(AREA_LOW + 0.02, AREA_HIGH - 0.02) if with_bowl else None
        positions: list[np.ndarray] = []
        for slot in range(len(lying)):
            darts = rng.uniform(AREA_LOW, AREA_HIGH, size=(_TRIES, 2))
            free = np.ones(_TRIES, bool)
            if bowl is not None:
                free &= apart(darts, bowl, BOWL_SPACING)
            for other, position in enumerate(positions):
                wide = lying[slot] or lying[other]
                free &= apart(darts, position, LYING_SPACING if wide else SPACING)
            if not free.any():
                break
            positions.append(darts[free.argmax()])
        if len(positions) == len(lying) and _task_possible(task, np.array(positions), yaws, bowl):
            return np.array(positions), bowl
    raise RuntimeError(f"no free layout found for {len(lying)} objects and {task}")


def _task_possible(
    task: Task, positions: np.ndarray, yaws: np.ndarray, bowl: np.ndarray | None
) -> bool:
    target = task.target
    if target is None:
        return True
    own = positions[target]
    if task.skill == "move_near":
        reference = positions[task.reference]
        spot = reference + NEAR_OFFSET
        others = np.delete(positions, [target, int(task.reference or 0)], axis=0)
        clear = apart(others, spot, SPACING).all()
        clear &= bowl is None or bool(apart(bowl, spot, BOWL_SPACING))
        far = np.linalg.norm(own - reference) >= _START_DISTANCE
        return bool(clear and far and spot[0] >= AREA_LOW[0] - 0.02)
    if task.skill == "knock":
        ahead = REACH_LOW[0] + KNOCK_ROOM <= own[0] <= REACH_CENTRE + 0.06
        return bool(ahead) and _lane_free(own, 0.0, (0.0, 0.17), positions, bowl)
    if task.skill == "upright":
        behind = yaws[target] + np.pi
        return _lane_free(own, behind, (0.0, 0.16), positions, bowl)
    return True


def _lane_free(
    start: np.ndarray,
    yaw: float,
    along: tuple[float, float],
    positions: np.ndarray,
    bowl: np.ndarray | None,
) -> bool:
    """Whether a lane 18 cm wide from `start` towards `yaw` holds no other centre."""
    points = positions if bowl is None else np.vstack([positions, bowl])
    away = points - start  # [points, 2]
    ahead = away @ np.array([np.cos(yaw), np.sin(yaw)])
    aside = np.abs(away @ np.array([-np.sin(yaw), np.cos(yaw)]))
    blocked = (ahead > along[0] + 1e-6) & (ahead < along[1]) & (aside < 0.09)
    return not blocked.any()

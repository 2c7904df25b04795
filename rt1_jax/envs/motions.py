"""The expert's few building blocks: each maps the physical state to the next motion.

All are proportional with a clip at the action's bounds, and all keep a funnel: the fingers go below
the objects' tops only when they stand right above what they are to grasp.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from rt1_jax.envs.robot import GRASP_HEIGHT
from rt1_jax.envs.state import SceneState

STEP = 0.05
"""Largest motion a step along each axis, m."""
HOVER = 0.122
"""Tool-centre height at which the finger tips clear the tallest object."""
CARRY = 0.125
"""Tool-centre height at which a carried object clears the others."""
ALIGNED, FUNNEL = 0.016, 0.022
"""Horizontal distance (m) that is good enough to close, and to go down."""
_OPEN, _EMPTY = 0.085, 0.012


@dataclasses.dataclass(frozen=True)
class Move:
    """A motion: hand [3] m, rotation [3] rad, closedness, base (x, y, yaw)."""

    hand: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    rotation: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    closed: float = -1.0
    base: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))


def clip(error: np.ndarray) -> np.ndarray:
    """The next step [3] towards a goal that is `error` away."""
    return np.clip(error, -STEP, STEP)


def grasp(state: SceneState, position: np.ndarray) -> Move:
    """Goes above a point, down around it, and closes there.

    Args:
      state: the state now.
      position: [3], of what is to be grasped, in the world.
    """
    hand = state.command_hand
    error = np.array([*(state.in_base(position)[:2] - hand[:2]), GRASP_HEIGHT - hand[2]])
    distance = float(np.hypot(error[0], error[1]))
    low = -error[2] < 0.014
    if distance < ALIGNED and low:
        # Closed on nothing: open again, and the next step closes anew.
        missed = state.command_closed > 0 and state.opening < _EMPTY
        return Move(clip(error), closed=-1.0 if missed else 1.0)
    between_fingers = abs(error[1]) < 0.024 and abs(error[0]) < 0.035
    sunk = hand[2] < HOVER - 0.03
    if distance < FUNNEL or (sunk and between_fingers):
        if state.opening < _OPEN:
            error[2] = 0.0
        return Move(clip(error))
    error[2] = HOVER - hand[2]
    if sunk:
        error[:2] = 0.0
    return Move(clip(error))


def lift(state: SceneState) -> Move:
    """Straight up with what is held, for `pick`."""
    rise = GRASP_HEIGHT + 0.10 - state.command_hand[2]
    return Move(clip(np.array([0.0, 0.0, max(rise, 0.02)])), closed=1.0)


def carry(state: SceneState, position: np.ndarray, spot: np.ndarray, drop: float) -> Move:
    """Brings what is held above a spot, lowers it, and lets go.

    Args:
      state: the state now.
      position: [3], where the held object is, in the world.
      spot: [2], where its centre is to be, in the base frame.
      drop: height (m) above the grasping height at which it is let go.
    """
    hand = state.command_hand
    flat = spot - state.in_base(position)[:2]
    distance = float(np.hypot(flat[0], flat[1]))
    lowest = GRASP_HEIGHT + drop
    if distance < FUNNEL:
        down = lowest - hand[2]
        if distance < ALIGNED and down > -0.012:
            return Move(closed=-1.0)
        return Move(clip(np.array([*flat, down])), closed=1.0)
    up = CARRY - hand[2]
    if up > STEP:
        flat = np.zeros(2)
    return Move(clip(np.array([*flat, up])), closed=1.0)

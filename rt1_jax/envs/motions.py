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
_TURNED = 0.15
_TURN_STEP = 0.6
_BASE_TURN_STEP = 0.25
_ARRIVED = np.array([0.03, 0.03, 0.1])


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


def turn_step(error: np.ndarray) -> np.ndarray:
    """The next rotation [3] towards a goal that is `error` away."""
    return np.clip(error, -_TURN_STEP, _TURN_STEP)


def grasp(
    state: SceneState, position: np.ndarray, height: float = GRASP_HEIGHT, yaw: float = 0.0
) -> Move:
    """Goes above a point, down around it, and closes there.

    Args:
      state: the state now.
      position: [2] or [3], of what is to be grasped, in the world.
      height: of the tool centre for closing.
      yaw: the hand's, in the base frame; the fingers close along its y axis.
    """
    hand = state.command_hand
    error = np.array([*(state.in_base(position)[:2] - hand[:2]), height - hand[2]])
    turn = np.array([0.0, 0.0, yaw]) - state.command_rotation
    turned = bool(np.abs(turn).max() < _TURNED)
    distance = float(np.hypot(error[0], error[1]))
    low = -error[2] < 0.014
    if turned and distance < ALIGNED and low:
        # Closed on nothing: open again, and the next step closes anew.
        missed = state.command_closed > 0 and state.opening < _EMPTY
        return Move(clip(error), turn_step(turn), closed=-1.0 if missed else 1.0)
    between_fingers = abs(error[1]) < 0.024 and abs(error[0]) < 0.035
    sunk = hand[2] < HOVER - 0.03
    if turned and (distance < FUNNEL or (sunk and between_fingers)):
        if state.opening < _OPEN:
            error[2] = 0.0
        return Move(clip(error), turn_step(turn))
    error[2] = HOVER - hand[2]
    if sunk:
        error[:2] = 0.0
    return Move(clip(error), turn_step(turn))


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


def push(state: SceneState, position: np.ndarray, height: float, gap: float, travel: float) -> Move:
    """Pushes something away from the robot with closed fingers.

    Args:
      state: the state now.
      position: [2] or [3], of what is to be pushed, in the world.
      height: of the tool centre while pushing.
      gap: distance (m) between tool centre and position when they touch.
      travel: how far (m) to push.
    """
    hand = state.command_hand
    offset = state.in_base(position)[:2] - hand[:2]
    turn = turn_step(-state.command_rotation)
    low = hand[2] < height + 0.012
    behind = abs(offset[1]) < 0.020
    if low and offset[0] > gap - (0.03 if behind else 0.005) and abs(offset[1]) < 0.06:
        up = height - hand[2]
        ahead = min(STEP, offset[0] - gap + travel) if behind and up < 0.015 else 0.0
        return Move(clip(np.array([ahead, offset[1], up])), turn, closed=1.0)
    flat = offset - (gap + 0.025, 0.0)
    if float(np.hypot(*flat)) < FUNNEL:
        return Move(clip(np.array([*flat, height - hand[2]])), turn, closed=1.0)
    if hand[2] < HOVER - 0.03:
        flat = np.zeros(2)
    return Move(clip(np.array([*flat, HOVER - hand[2]])), turn, closed=1.0)


def drive(state: SceneState, goal: tuple[float, float, float], closed: float) -> Move | None:
    """Moves the base, hand raised; None if it has arrived.

    Args:
      state: the state now.
      goal: (x, y, yaw) in the world.
      closed: what the gripper does meanwhile.
    """
    flat = state.in_base(np.array(goal[:2]))
    error = np.array([*flat, goal[2] - state.base[2]])
    if np.all(np.abs(error) < _ARRIVED):
        return None
    up = np.array([0.0, 0.0, CARRY - state.command_hand[2]])
    if up[2] > 0.03:
        return Move(clip(up), closed=closed)
    turn = float(np.clip(error[2], -_BASE_TURN_STEP, _BASE_TURN_STEP))
    return Move(clip(up), closed=closed, base=np.array([*clip(flat), turn]))

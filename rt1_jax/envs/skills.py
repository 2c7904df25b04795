"""The expert's plan for each skill: from the physical state to the next motion."""

from __future__ import annotations

import numpy as np

from rt1_jax.envs import motions, scene
from rt1_jax.envs.layout import KNOCK_ROOM, NEAR_OFFSET, SPACING, apart
from rt1_jax.envs.motions import Move
from rt1_jax.envs.objects import ObjectType
from rt1_jax.envs.robot import REACH_HIGH, REACH_LOW
from rt1_jax.envs.state import SceneState, from_frame
from rt1_jax.envs.tasks import Task

Objects = tuple[ObjectType, ...]

_FACING_DISTANCE = 0.534
"""From the base to the cabinet's front while the robot works on the drawer."""
_BOWL_DROP, _DRAWER_DROP = 0.045, 0.050
"""How far above the grasping height an object is let go: its underside is above the bowl's rim."""
_PAD_HALF_WIDTH = 0.015
_TILT = np.pi / 2
_TILT_HEIGHT = 0.075
"""Tool-centre height at which a lying object can be turned up without touching the table."""


def next_move(task: Task, objects: Objects, state: SceneState) -> Move:
    """The expert's next motion towards a task that is not done yet."""
    if task.skill == "open_drawer":
        return _open_drawer(state)
    if task.skill == "close_drawer":
        return _close_drawer(state)
    if task.target is None:
        raise ValueError(f"a {task.skill} task needs a target")
    if task.skill == "pick":
        return _pick(state, task.target)
    if task.skill == "move_near":
        return _move_near(state, task)
    if task.skill == "knock":
        return _knock(state, task.target, objects[task.target])
    if task.skill == "upright":
        return _upright(state, task.target, objects[task.target])
    return _place_into(state, task.target, task.receptacle)


def _pick(state: SceneState, target: int) -> Move:
    if state.held[target]:
        return motions.lift(state)
    return _fetch(state, target)


def _fetch(state: SceneState, target: int) -> Move:
    """Grasps an object where it stands, driving there if it is out of reach."""
    position = state.positions[target]
    return _come_near(state, position, 0.0, 0.0, closed=-1.0) or motions.grasp(state, position)


def _come_near(
    state: SceneState, position: np.ndarray, before: float, behind: float, closed: float
) -> Move | None:
    """Drives to something out of reach; None if it is within.

    `before` and `behind` are the room (m) that the hand needs on either side of it.
    """
    near = state.in_base(position)[:2]
    low = REACH_LOW[:2] + np.array([before, 0.0])
    high = REACH_HIGH[:2] - np.array([behind, 0.0])
    if np.all(near >= low) and np.all(near <= high):
        return None
    goal = (float(position[0]) - scene.REACH_CENTRE, float(position[1]), 0.0)
    return motions.drive(state, goal, closed)


def _move_near(state: SceneState, task: Task) -> Move:
    target, reference = task.target, task.reference
    if not state.held[target]:
        return _fetch(state, int(target or 0))
    around = state.in_base(state.positions[reference])[:2]
    others = [
        state.in_base(position)[:2]
        for slot, position in enumerate(state.positions)
        if slot not in (target, reference)
    ]
    if state.bowl is not None:
        others.append(state.in_base(state.bowl))
    spot = _free_spot(around, np.array(others))
    return motions.carry(state, state.positions[target], spot, drop=0.0)


def _free_spot(reference: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Where to set X down: in front of Y, or behind it if something lies in front."""
    for offset in (NEAR_OFFSET, -NEAR_OFFSET):
        spot = reference + offset
        reachable = bool(np.all(spot >= REACH_LOW[:2]) and np.all(spot <= REACH_HIGH[:2]))
        if reachable and apart(others, spot, SPACING * 0.8).all():
            return spot
    return np.clip(reference + NEAR_OFFSET, REACH_LOW[:2], REACH_HIGH[:2])


def _knock(state: SceneState, target: int, kind: ObjectType) -> Move:
    """Pushes against the upper part, away from the robot."""
    shape = kind.geometry
    gap = shape.radius + _PAD_HALF_WIDTH
    height = shape.height - 0.003
    position = state.positions[target]
    driving = _come_near(state, position, KNOCK_ROOM, 0.02, closed=1.0)
    return driving or motions.push(state, position, height, gap, travel=0.10)


def _upright(state: SceneState, target: int, kind: ObjectType) -> Move:
    """Grasps across the lying object, turns it up about the fingers' axis, sets it down."""
    axis = state.up_axes[target]
    along = state.in_base(np.array(state.base[:2]) + axis[:2])
    sign = 1.0 if kind.geometry.has_top or along[0] >= 0 else -1.0
    tilt = state.command_rotation[1]
    if not state.held[target]:
        if abs(tilt) > 0.1:
            # Let go of something turned: back off upwards first.
            up = np.array([0.0, 0.0, motions.HOVER - state.command_hand[2]])
            turn = np.array([0.0, -tilt, 0.0])
            return Move(motions.clip(up), motions.turn_step(turn))
        yaw = float(np.arctan2(sign * along[1], sign * along[0]))
        grip = state.positions[target] + kind.geometry.com_z * axis
        return motions.grasp(state, grip, yaw=yaw)
    height = state.command_hand[2]
    if tilt > -_TILT + 0.1:
        rise = max(0.0, _TILT_HEIGHT - height)
        turn = np.array([0.0, -_TILT - tilt if rise <= motions.STEP else 0.0, 0.0])
        return Move(motions.clip(np.array([0.0, 0.0, rise])), motions.turn_step(turn), closed=1.0)
    shape = kind.geometry
    slope = np.sqrt(max(0.0, 1.0 - axis[2] ** 2))
    lowest = state.positions[target, 2] - shape.half_height * abs(axis[2]) - shape.radius * slope
    if lowest < 0.006:
        return Move(closed=-1.0)
    return Move(motions.clip(np.array([0.0, 0.0, 0.001 - lowest])), closed=1.0)


def _facing(state: SceneState) -> tuple[float, float, float]:
    """The base pose in front of the cabinet."""
    spot = from_frame(np.array([-_FACING_DISTANCE, 0.0]), state.cabinet)
    return (float(spot[0]), float(spot[1]), state.cabinet[2])


def _open_drawer(state: SceneState) -> Move:
    if state.knob_held:
        return Move(np.array([-motions.STEP, 0.0, 0.0]), closed=1.0)
    driving = motions.drive(state, _facing(state), closed=-1.0)
    return driving or motions.grasp(state, state.knob, scene.KNOB_GRASP_HEIGHT)


def _close_drawer(state: SceneState) -> Move:
    driving = motions.drive(state, _facing(state), closed=1.0)
    gap = scene.KNOB_RADIUS + _PAD_HALF_WIDTH
    travel = state.drawer_opening + 0.01
    return driving or motions.push(state, state.knob, scene.KNOB_GRASP_HEIGHT, gap, travel)


def _place_into(state: SceneState, target: int, receptacle: str | None) -> Move:
    if not state.held[target]:
        return _fetch(state, target)
    position = state.positions[target]
    if receptacle == "bowl" and state.bowl is not None:
        return motions.carry(state, position, state.in_base(state.bowl), _BOWL_DROP)
    driving = motions.drive(state, _facing(state), closed=1.0)
    middle = from_frame(np.array([-state.drawer_opening / 2, 0.0]), state.cabinet)
    return driving or motions.carry(state, position, state.in_base(middle), _DRAWER_DROP)

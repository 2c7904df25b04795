import dataclasses

import numpy as np
import pytest

from rt1_jax.envs import scene
from rt1_jax.envs.objects import ObjectType
from rt1_jax.envs.state import SceneState, from_frame
from rt1_jax.envs.tasks import Task, admits, succeeded

OBJECTS = tuple(
    ObjectType.parse(name) for name in ("red block", "blue can", "green bottle", "yellow ball")
)
CABINET = (0.46, 0.5, 0.4)


def _start():
    heights = [kind.geometry.half_height for kind in OBJECTS]
    flat = [(0.35, -0.1), (0.55, -0.1), (0.35, 0.1), (0.55, 0.1)]
    return SceneState(
        positions=np.array([(*xy, z) for xy, z in zip(flat, heights, strict=True)]),
        up_axes=np.tile([0.0, 0.0, 1.0], (4, 1)),
        held=np.zeros(4, bool),
        touched=np.zeros(4, bool),
        knob_held=False,
        opening=0.1,
        hand=np.array([0.44, 0.0, 0.15]),
        drawer_opening=0.13,
        cabinet=CABINET,
        bowl=np.array([0.44, 0.0]),
        base=(0.0, 0.0, 0.0),
        command_hand=np.array([0.44, 0.0, 0.15]),
        command_rotation=np.zeros(3),
        command_closed=-1.0,
    )


def _with(slot, position=None, up=None, held=None, touched=None):
    state = _start()
    for array, value in (
        (state.positions, position),
        (state.up_axes, up),
        (state.held, held),
        (state.touched, touched),
    ):
        if value is not None:
            array[slot] = value
    return state


def _done(task, state):
    return succeeded(task, OBJECTS, state, _start())


@pytest.mark.parametrize(("height", "held", "done"), [(0.07, 1, 1), (0.05, 1, 0), (0.07, 0, 0)])
def test_pick_needs_height_and_a_grip(height, held, done):
    state = _with(0, position=(0.35, -0.1, 0.026 + height), held=bool(held), touched=bool(held))
    assert _done(Task("pick", 0), state) == bool(done)


def test_pick_of_another_object_does_not_count():
    state = _with(1, position=(0.35, -0.1, 0.2), held=True)
    assert not _done(Task("pick", 0), state)


@pytest.mark.parametrize(
    ("change", "done"),
    [
        ({"position": (0.55, -0.19, 0.026)}, True),
        ({"position": (0.55, -0.23, 0.026)}, False),  # 13 cm away
        ({"position": (0.55, -0.19, 0.046)}, False),  # in the air
        ({"position": (0.55, -0.19, 0.026), "touched": True}, False),  # not let go
    ],
)
def test_move_near_needs_nearness_rest_and_release(change, done):
    assert _done(Task("move_near", 0, 1), _with(0, **change)) == done


def test_move_near_fails_if_the_reference_was_pushed_instead():
    state = _with(1, position=(0.42, -0.1, 0.036))
    assert not _done(Task("move_near", 0, 1), state)


@pytest.mark.parametrize(
    ("up", "height", "done"),
    [((1, 0, 0), 0.026, True), ((0.6, 0, 0.8), 0.026, False), ((1, 0, 0), 0.06, False)],
)
def test_knock_needs_a_lying_object(up, height, done):
    state = _with(1, position=(0.55, -0.1, height), up=up)
    assert _done(Task("knock", 1), state) == done


@pytest.mark.parametrize(
    ("slot", "up", "touched", "done"),
    [
        (1, (0, 0, 1), False, True),
        (1, (0, 0, -1), False, True),  # a can has no top
        (2, (0, 0, -1), False, False),  # a bottle has
        (2, (0, 0, 1), True, False),  # still held
        (2, (0.3, 0, 0.954), False, False),  # leaning
    ],
)
def test_upright_needs_an_upright_object_let_go(slot, up, touched, done):
    assert _done(Task("upright", slot), _with(slot, up=up, touched=touched)) == done


@pytest.mark.parametrize(
    ("opening", "is_open", "closed"), [(0.11, 1, 0), (0.05, 0, 0), (0.01, 0, 1)]
)
def test_drawer_rules(opening, is_open, closed):
    state = dataclasses.replace(_start(), drawer_opening=opening)
    assert _done(Task("open_drawer"), state) == bool(is_open)
    assert _done(Task("close_drawer"), state) == bool(closed)


@pytest.mark.parametrize(
    ("position", "done"),
    [((0.45, 0.01, 0.04), True), ((0.51, 0.0, 0.04), False), ((0.44, 0.0, 0.1), False)],
)
def test_bowl_rule(position, done):
    assert _done(Task("place_into", 0, receptacle="bowl"), _with(0, position=position)) == done


@pytest.mark.parametrize(
    ("ahead", "aside", "height", "done"),
    [
        (-0.07, 0.0, 0.035, True),
        (-0.07, 0.09, 0.035, False),  # beside the drawer
        (-0.15, 0.0, 0.035, False),  # in front of it
        (0.06, 0.0, 0.035, False),  # behind it
        (-0.07, 0.0, 0.10, False),  # above it
    ],
)
def test_drawer_place_rule_follows_the_turned_drawer(ahead, aside, height, done):
    position = from_frame(np.array([ahead, aside, height]), CABINET)
    task = Task("place_into", 0, receptacle="drawer")
    assert _done(task, _with(0, position=position)) == done
    assert not _done(task, _with(0, position=position, touched=True))


def test_a_bowl_that_is_not_there_holds_nothing():
    state = dataclasses.replace(_with(0, position=(0.44, 0, 0.03)), bowl=None)
    assert not _done(Task("place_into", 0, receptacle="bowl"), state)


def test_admitted_objects():
    assert [admits("knock", kind) for kind in OBJECTS] == [False, True, True, False]
    assert all(admits("pick", kind) for kind in OBJECTS)
    assert not admits("open_drawer", OBJECTS[0])


def test_task_json_names_objects():
    named = Task("move_near", 0, 3).to_json(OBJECTS)
    assert named["target"] == "red block"
    assert named["reference"] == "yellow ball"


def test_the_knob_stands_before_the_drawer():
    knob = _start().in_cabinet(_start().knob)
    np.testing.assert_allclose(knob[0], -0.13 - scene.KNOB_OFFSET)

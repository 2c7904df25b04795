"""The eleven datasets: their schemas written by TFDS and mapped, and their mappings by hand."""

from __future__ import annotations

import numpy as np
import pytest
import rlds
import rlds_schemas

from rt1_jax.actions import RT1, RT1_X
from rt1_jax.data import oxe

OPEN_X = tuple(rlds_schemas.SCHEMAS)
TERMINATE, GO_ON = [1, 0, 0], [0, 1, 0]


def steps_of(name: str, steps: int = 4, **values) -> dict[str, np.ndarray]:
    """A made episode of a dataset, {path: [t, ...]}, with some action keys set by hand."""
    made = rlds.stack_steps(rlds.make_episode(name, 0, steps))
    for key, value in values.items():
        path = f"action/{key}" if f"action/{key}" in made else key
        made[path] = np.asarray(value, made[path].dtype)
    return made


def test_all_are_registered():
    assert oxe.names()[: len(OPEN_X)] == OPEN_X


@pytest.mark.parametrize("name", OPEN_X)
def test_a_public_schema_is_read_and_mapped(name, tmp_path):
    builder_dir = rlds.write_rlds(tmp_path, name, episodes=3, steps=3, shards=2)
    dataset = oxe.get(name)
    assert builder_dir == tmp_path / name / dataset.version
    assert len(list(builder_dir.glob("*.tfrecord-*-of-00002"))) == 2
    episodes = rlds.read_rlds(builder_dir)
    assert len(episodes) == 3
    for number, steps in enumerate(episodes):
        oxe.check_schema(dataset, steps.keys())
        made = rlds.stack_steps(rlds.make_episode(name, number, 3))
        for key in dataset.action_keys:
            np.testing.assert_array_equal(steps[key], made[key])
        image = steps[dataset.image]
        assert image.dtype == np.uint8
        # JPEG changes a gradient by a few grey levels at most.
        assert np.abs(image.astype(int) - made[dataset.image]).max() < 8
        text = rlds.INSTRUCTIONS[number]
        assert dataset.read_instruction(steps[dataset.instruction][0]) == text
        if dataset.embedding is not None:
            assert steps[dataset.embedding].shape == (3, 512)
        _check_actions(dataset, dataset.actions(steps))


def _check_actions(dataset, actions):
    steps = len(actions["world_vector"])
    dataset.action_spec.validate(actions)
    assert all(value.dtype == np.float32 for value in actions.values())
    expected = [GO_ON] * (steps - 1) + [TERMINATE]
    np.testing.assert_array_equal(actions["terminate_episode"], expected)
    for field in dataset.action_spec.fields:
        value = actions[field.name]
        assert value.shape == (steps, field.size)
        assert np.all(value >= np.float32(field.low)), field.name
        assert np.all(value <= np.float32(field.high)), field.name
    if dataset.rt1_x is not None:
        scaled = dataset.rt1_x_actions(actions)
        RT1_X.validate(scaled)
        np.testing.assert_array_equal(scaled["terminate_episode"], expected)
        for field in ("world_vector", "rotation_delta"):
            bound = np.float32(RT1_X.field(field).high)
            assert np.all(np.abs(scaled[field]) <= bound), field


@pytest.mark.parametrize("name", OPEN_X)
def test_a_description_is_complete(name):
    dataset = oxe.get(name)
    assert dataset.action_spec.name == dataset.name == name
    assert dataset.action_spec.field_names == RT1.field_names
    assert dataset.gripper
    assert dataset.notes
    assert len(dataset.sources) >= 3
    assert (dataset.embedding is None) == (dataset.embedding_encoder is None)
    assert set(dataset.keys) <= set(rlds_schemas.step_paths(rlds_schemas.schema(name)))


@pytest.mark.parametrize("name", ["bridge", "toto"])
def test_a_gripper_told_to_open(name):
    actions = oxe.get(name).actions(steps_of(name, open_gripper=[True, False, False, True]))
    np.testing.assert_array_equal(actions["gripper_closedness_action"].ravel(), [-1, 1, 1, -1])


@pytest.mark.parametrize(
    "name",
    [
        "fractal20220817_data",
        "jaco_play",
        "roboturk",
        "nyu_door_opening_surprising_effectiveness",
        "viola",
        "berkeley_autolab_ur5",
    ],
)
def test_a_gripper_with_the_sign_of_rt1(name):
    steps = steps_of(name)
    key = "action/gripper_closedness_action"
    steps[key] = np.reshape(np.float32([1, 0, -1, 1]), steps[key].shape)
    actions = oxe.get(name).actions(steps)
    np.testing.assert_array_equal(actions["gripper_closedness_action"], [[1], [0], [-1], [1]])


def test_taco_play_takes_the_absolute_pose_and_turns_the_gripper():
    pose = np.arange(28, dtype=np.float32).reshape(4, 7) / 100
    pose[:, 6] = [1, 1, -1, -1]  # open, open, closed, closed
    dataset = oxe.get("taco_play")
    actions = dataset.actions(steps_of("taco_play", actions=pose))
    np.testing.assert_array_equal(actions["world_vector"], pose[:, :3])
    np.testing.assert_array_equal(actions["rotation_delta"], pose[:, 3:6])
    np.testing.assert_array_equal(actions["gripper_closedness_action"].ravel(), [-1, -1, 1, 1])
    # RT-1-X was given the stored number.
    scaled = dataset.rt1_x_actions(actions)
    np.testing.assert_array_equal(scaled["gripper_closedness_action"].ravel(), pose[:, 6])


@pytest.mark.parametrize("name", ["berkeley_cable_routing", "language_table"])
def test_without_a_gripper_it_is_zero(name):
    actions = oxe.get(name).actions(steps_of(name))
    assert not actions["gripper_closedness_action"].any()


@pytest.mark.parametrize("name", OPEN_X[1:])
def test_without_a_base_it_stands(name):
    actions = oxe.get(name).actions(steps_of(name))
    assert not actions["base_displacement_vector"].any()
    assert not actions["base_displacement_vertical_rotation"].any()


def test_the_own_data_of_rt1_are_taken_as_they_are():
    steps = steps_of("fractal20220817_data")
    actions = oxe.get("fractal20220817_data").actions(steps)
    for field in RT1.field_names:
        np.testing.assert_array_equal(actions[field], steps[f"action/{field}"])


def test_only_one_terminates():
    actions = oxe.get("bridge").actions(steps_of("bridge", terminate_episode=[0, 0.5, 1, 0]))
    expected = [GO_ON, GO_ON, TERMINATE, GO_ON]
    np.testing.assert_array_equal(actions["terminate_episode"], expected)


def test_language_table_is_a_plane_and_drops_the_terminal_action():
    steps = steps_of("language_table", action=[[0.01, 0.02], [0.03, 0.04], [0.1, 0], [0.05, 0.05]])
    actions = oxe.get("language_table").actions(steps)
    expected = np.float32([[0.01, 0.02, 0], [0.03, 0.04, 0], [0.1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(actions["world_vector"], expected)
    # An episode cut off: last, but not terminal. Its action stands, and it ends all the same.
    steps["is_terminal"][:] = False
    cut = oxe.get("language_table").actions(steps)
    np.testing.assert_array_equal(cut["world_vector"][3], np.float32([0.05, 0.05, 0]))
    np.testing.assert_array_equal(cut["terminate_episode"][3], TERMINATE)

"""Which entries of `action` become which field, and what is said where that cannot be told."""

from __future__ import annotations

import json

import lerobot_dataset as made
import numpy as np
import pytest

from rt1_jax.actions import RT1, TABLETOP
from rt1_jax.data.lerobot.action_mapping import load_mapping, table_mapping
from rt1_jax.data.lerobot.layout import LeRobotError
from rt1_jax.data.lerobot.source import LeRobotSource

ACTION = np.arange(21, dtype=np.float32).reshape(3, 7)
STATE = np.full((3, 2), 0.5, np.float32)
VECTORS = {"action": ACTION, "observation.state": STATE}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return LeRobotSource.open(made.write(tmp_path_factory.mktemp("made") / "data", video=False))


def renamed(source, names):
    features = {**source.features, "action": {**source.features["action"], "names": names}}
    return LeRobotSource(
        source.root, {**source.info, "features": features}, source.tasks, source.episodes, None
    )


def test_entries_by_place_name_scale_and_offset(source):
    mapping = table_mapping(
        {
            "spec": "tabletop",
            "world_vector": [2, "y", 0],
            "gripper_closedness_action": {"index": "gripper", "scale": -2, "offset": 1},
            "rotation_delta": {"index": [3, 4, 5], "low": [-1, -2, -3], "high": 4},
            "joints": {
                "feature": "observation.state",
                "index": [1, 0],
                "low": 0,
                "high": 1,
                "unit": "rad",
            },
        },
        source,
        "a test",
    )
    found = mapping(VECTORS)
    np.testing.assert_array_equal(found["world_vector"], ACTION[:, [2, 1, 0]])
    np.testing.assert_array_equal(found["gripper_closedness_action"], 1 - 2 * ACTION[:, 6:])
    np.testing.assert_array_equal(found["joints"], STATE)
    np.testing.assert_array_equal(found["base_displacement_vector"], np.zeros((3, 2)))
    assert found["terminate_episode"].tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert mapping.zero == ("base_displacement_vertical_rotation", "base_displacement_vector")
    assert mapping.spec.field("world_vector") == TABLETOP.field("world_vector")
    assert mapping.spec.field("rotation_delta").low == (-1, -2, -3)
    assert mapping.spec.field("rotation_delta").high == (4, 4, 4)
    assert mapping.spec.field("joints").unit == "rad"
    assert mapping.spec.field_names[-1] == "joints"
    mapping.spec.validate(found)


def test_terminate_from_the_data(source):
    flag = {"world_vector": [0, 1, 2], "terminate_episode": {"index": 6, "scale": 0.1}}
    vectors = {"action": np.asarray([[0] * 7, [0] * 6 + [10], [0] * 7], np.float32)}
    found = table_mapping(flag, source, "a test")(vectors)
    assert found["terminate_episode"].tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    "names",
    [
        made.NAMES,
        {"motors": made.NAMES},
        ["delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper"],
        ["ee.x", "ee.y", "ee.z", "ee.rx", "ee.ry", "ee.rz", "gripper.pos"],
    ],
)
def test_names_that_tell(source, names):
    mapping = load_mapping("", renamed(source, names))
    assert mapping.spec == RT1
    np.testing.assert_array_equal(mapping(VECTORS)["rotation_delta"], ACTION[:, 3:6])


@pytest.mark.parametrize(
    "names",
    [
        None,
        ["shoulder_pan.pos", "a", "b", "c", "d", "e", "gripper.pos"],
        ["x", "y", "z", "roll", "pitch", "yaw", "speed"],
        ["x", "x", "z", "roll", "pitch", "yaw", "gripper"],
    ],
)
def test_names_that_do_not_tell(source, names):
    with pytest.raises(LeRobotError, match=r"cannot be told; 'action' has 7 entries.*--actions="):
        load_mapping("", renamed(source, names))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "maps nothing; 'action' has 7 entries: x, y, z, roll, pitch, yaw, gripper"),
        ({"spec": "rt2"}, "unknown spec 'rt2'"),
        ({"world_vector": [0, 1]}, "'world_vector' takes 3 entries, got 2"),
        ({"world_vector": [0, 1, 7]}, "no entry 7; 'action' has 7 entries: x, y"),
        ({"world_vector": ["x", "y", "Z"]}, "no entry 'Z'; 'action' has 7 entries"),
        ({"world_vector": [0, 1, -1]}, "no entry -1"),
        ({"world_vector": {"indx": 1}}, "unknown key 'indx'"),
        ({"world_vector": {"scale": 1}}, "lacks 'index'"),
        ({"world_vector": {"index": [0, 1, 2], "scale": [1, 2]}}, "a number or 3 numbers"),
        ({"world_vector": {"index": [0, 1, 2], "low": "a"}}, "a number or 3 numbers"),
        ({"world_vector": {"index": [0, 1, 2], "low": 5}}, "low < high"),
        ({"joint": {"index": 0, "low": 0}}, "needs 'low' and 'high'"),
        ({"joint": {"index": 0, "feature": "state"}}, "no vector 'state'; its vectors are action"),
        ({"joint": {"index": 0, "feature": made.CAMERA}}, "no vector 'observation.images.front'"),
    ],
)
def test_mappings_that_do_not_fit(source, tmp_path, entries, message):
    path = tmp_path / "actions.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(LeRobotError, match=message):
        load_mapping(path, source)


def test_a_python_file(source, tmp_path):
    path = tmp_path / "mapping.py"
    path.write_text(
        "import numpy as np\n"
        "from rt1_jax.actions import ActionField, ActionSpec\n"
        "ACTION_SPEC = ActionSpec('mine', (ActionField('joints', 2, (-1,) * 2, (1,) * 2, 'rad'),\n"
        "    ActionField('terminate_episode', 3, (0,) * 3, (1,) * 3, '', 'one_hot')), 256)\n"
        "def actions(action, state):\n"
        "    return {'joints': action[:, :2] - state}\n"
    )
    mapping = load_mapping(path, source)
    assert mapping.features == ("action", "observation.state")
    found = mapping(VECTORS)
    np.testing.assert_array_equal(found["joints"], ACTION[:, :2] - 0.5)
    assert found["terminate_episode"][-1].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def actions(a, s): ...", "expected ACTION_SPEC"),
        ("1 / 0", "cannot be run.*ZeroDivisionError"),
        (
            "from rt1_jax.actions import RT1 as ACTION_SPEC\ndef actions(a, s): return {}",
            "gives fields of shapes .*expected",
        ),
        (
            "from rt1_jax.actions import RT1 as ACTION_SPEC\ndef actions(a, s): return a['x']",
            "actions.. raised IndexError.*'action' has 7 entries",
        ),
    ],
)
def test_python_files_that_do_not_fit(source, tmp_path, text, message):
    path = tmp_path / "mapping.py"
    path.write_text(text)
    with pytest.raises(LeRobotError, match=message):
        load_mapping(path, source)(VECTORS)


def test_a_dataset_that_is_not_ours(source):
    assert load_mapping("names", source).spec == RT1
    with pytest.raises(LeRobotError, match="not exported by this package"):
        load_mapping("own", source)


def test_files_that_are_no_mapping(source, tmp_path):
    with pytest.raises(LeRobotError, match=r"existing .json or .py file"):
        load_mapping("nothing", source)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(LeRobotError, match="is not JSON"):
        load_mapping(tmp_path / "a.json", source)

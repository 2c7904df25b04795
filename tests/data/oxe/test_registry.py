"""Names, one's own datasets, schemas that lack a key, instructions, bad descriptions."""

from __future__ import annotations

import dataclasses
import pathlib
import textwrap

import numpy as np
import pytest
import rlds
import rlds_schemas

from rt1_jax.actions import TABLETOP, ActionSpec
from rt1_jax.data import oxe
from rt1_jax.data.oxe import registry

EXAMPLE = pathlib.Path(__file__).parents[3] / "docs" / "open_x_datasets.md"


@pytest.fixture(autouse=True)
def _forget_own(monkeypatch):
    monkeypatch.setattr(registry, "_own", {})


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    path.write_text(textwrap.dedent(text))
    return path


OWN = """
    from rt1_jax.data import oxe

    def mapping(steps):
        return oxe.rt1_action(
            world_vector=steps["action"][:, :3],
            gripper_closedness_action=oxe.closedness_of_open(steps["action"][:, 3]),
            terminate_episode=oxe.one_hot_terminate(steps["is_last"]),
        )

    def describe(name):
        return oxe.RLDSDataset(
            name=name,
            image="observation/camera",
            instruction="language_instruction",
            embedding=None,
            action_keys=("action", "is_last"),
            frame_rate=5.0,
            action_spec=oxe.dataset_spec(name, world_vector=(-0.02, 0.02)),
            mapping=mapping,
        )
"""


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(oxe.OXEError, match=r"'jaco'; nearest: jaco_play, .*; there are: fractal"):
        oxe.get("jaco")


def test_own_datasets_of_a_file(tmp_path):
    text = textwrap.dedent(OWN) + 'DATASETS = [describe("mine"), describe("other")]\n'
    file = write(tmp_path / "mine.py", text)
    found = oxe.load_user_file(file)
    assert [dataset.name for dataset in found] == ["mine", "other"]
    assert oxe.get("mine") is found[0]
    assert oxe.names()[-2:] == ("mine", "other")
    steps = {
        "action": np.float32([[0.01, 0, 0, 1], [0, 0.01, 0, 0]]),
        "is_last": np.array([False, True]),
        "more": np.zeros(2),
    }
    actions = found[0].actions(steps)
    np.testing.assert_array_equal(actions["gripper_closedness_action"], [[-1], [1]])
    np.testing.assert_array_equal(actions["terminate_episode"], [[0, 1, 0], [1, 0, 0]])
    assert not actions["rotation_delta"].any()
    # Again, as a second process or a second command of a session does.
    assert oxe.get("mine") is not oxe.load_user_file(file)[1]


def test_a_file_may_register_by_itself(tmp_path):
    text = textwrap.dedent(OWN) + 'oxe.register(describe("mine"))\n'
    file = write(tmp_path / "mine.py", text)
    assert [d.name for d in oxe.load_user_file(file)] == ["mine"]
    assert [d.name for d in oxe.load_user_file(file)] == ["mine"]


def test_the_example_of_the_documentation(tmp_path):
    text = EXAMPLE.read_text().split("```python\n")[2].split("```")[0]
    (dataset,) = oxe.load_user_file(write(tmp_path / "kitchen.py", text))
    schema = {
        "steps": {
            "action": ("float32", (7,)),
            "is_first": ("bool", ()),
            "is_last": ("bool", ()),
            "is_terminal": ("bool", ()),
            "language_instruction": ("string", ()),
            "observation": {"front": rlds_schemas.image(48, 64)},
        }
    }
    builder_dir = rlds.write_rlds(tmp_path, dataset.name, episodes=1, steps=3, features=schema)
    (steps,) = rlds.read_rlds(builder_dir)
    oxe.check_schema(dataset, steps.keys())
    dataset.action_spec.validate(dataset.actions(steps))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DATASETS = [", "fails when run: SyntaxError"),
        ("import no_such_module", "fails when run: ModuleNotFoundError: .*no_such_module"),
        ("x = 1", "describes no dataset: expected DATASETS"),
        ("DATASETS = []", "describes no dataset"),
        ("DATASETS = 3", "DATASETS must be a list of RLDSDataset, got int"),
        ("DATASETS = [{}]", r"DATASETS\[0\]: register takes an RLDSDataset, got dict"),
        (
            "from rt1_jax.data import oxe\nDATASETS = [oxe.get('bridge')]",
            r"DATASETS\[0\]: the name 'bridge' belongs to a dataset of Open X-Embodiment",
        ),
    ],
)
def test_bad_files(tmp_path, text, message):
    with pytest.raises(oxe.OXEError, match=message):
        oxe.load_user_file(write(tmp_path / "mine.py", text))


def test_a_bad_file_registers_nothing(tmp_path):
    text = textwrap.dedent(OWN) + 'oxe.register(describe("mine"))\n'
    twice = write(
        tmp_path / "twice.py", text + 'DATASETS = [describe("other"), describe("other")]\n'
    )
    with pytest.raises(oxe.OXEError, match=r"DATASETS\[1\]: the name 'other' comes twice"):
        oxe.load_user_file(twice)
    with pytest.raises(oxe.OXEError, match="fails when run: SystemExit: 1"):
        oxe.load_user_file(write(tmp_path / "exits.py", text + "raise SystemExit(1)\n"))
    assert "mine" not in oxe.names()
    assert "other" not in oxe.names()


def test_no_such_file(tmp_path):
    with pytest.raises(oxe.OXEError, match=r"no file .*mine\.py"):
        oxe.load_user_file(tmp_path / "mine.py")
    with pytest.raises(oxe.OXEError, match="not a Python file"):
        oxe.load_user_file(write(tmp_path / "mine.txt", "x = 1"))


def test_a_missing_key_names_the_nearest():
    paths = set(rlds_schemas.step_paths(rlds_schemas.schema("bridge")))
    # The later copies of bridge have image_0 .. image_3 and one action vector.
    paths = {p for p in paths if not p.startswith("action/")} - {"observation/image"}
    paths |= {"observation/image_0", "observation/image_1", "action"}
    with pytest.raises(
        oxe.OXEError,
        match=r"'bridge' lacks the key 'observation/image' \(and 'action/world_vector'.*\); "
        r"nearest: observation/image_0, observation/image_1.*; there are: action, is_first",
    ):
        oxe.check_schema(oxe.get("bridge"), paths)


def test_many_keys_are_not_all_listed():
    paths = set(rlds_schemas.step_paths(rlds_schemas.schema("fractal20220817_data")))
    with pytest.raises(oxe.OXEError) as caught:
        oxe.check_schema(oxe.get("fractal20220817_data"), paths - {"action/world_vector"})
    assert "there are" not in str(caught.value)
    assert "'action/world_vector'" in str(caught.value)


def test_actions_of_steps_that_do_not_fit():
    dataset = oxe.get("bridge")
    steps = rlds.stack_steps(rlds.make_episode("bridge", 0, 3))
    lacking = {k: v for k, v in steps.items() if k != "action/open_gripper"}
    with pytest.raises(oxe.OXEError, match="lacks the key 'action/open_gripper'; nearest"):
        dataset.actions(lacking)
    with pytest.raises(oxe.OXEError, match="differ in their number of steps"):
        dataset.actions({**steps, "action/open_gripper": np.ones(2, bool)})
    with pytest.raises(oxe.OXEError, match=r"shapes .*\[3, 2\].* cannot be mapped"):
        dataset.actions({**steps, "action/world_vector": np.ones((3, 2))})
    with pytest.raises(oxe.OXEError, match="differ in their number of steps"):
        dataset.actions({**steps, "action/world_vector": np.float32(1)})


def test_a_mapping_that_gives_the_wrong_thing():
    wrong = dataclasses.replace(oxe.get("bridge"), mapping=lambda steps: {"world_vector": 0})
    with pytest.raises(oxe.OXEError, match="mapping gave the shapes .* expected"):
        wrong.actions(rlds.stack_steps(rlds.make_episode("bridge", 0, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name must be a non-empty string"),
        ({"image": None}, "image must be a non-empty string"),
        ({"action_keys": ()}, "action_keys must name at least one"),
        ({"frame_rate": 0.0}, "frame_rate must be positive, got 0.0"),
        ({"mapping": None}, "mapping must be a function"),
        (
            {"action_spec": ActionSpec("one", TABLETOP.fields[:2], 256)},
            "action_spec has the fields .*make it with `dataset_spec`",
        ),
    ],
)
def test_descriptions_that_do_not_fit(change, message):
    with pytest.raises(oxe.OXEError, match=message):
        dataclasses.replace(oxe.get("bridge"), **change)


def test_instructions():
    read = oxe.get("language_table").read_instruction
    codes = np.zeros(512, np.int32)
    codes[:4] = list("né!".encode())
    assert read(codes) == "né!"
    assert read(np.zeros(512, np.int32)) == ""
    read = oxe.get("bridge").read_instruction
    for value in ("née", "née".encode(), np.array("née".encode(), object), np.array("née")):
        assert read(value) == "née"
    with pytest.raises(oxe.OXEError, match="float32 .*expected one string"):
        read(np.zeros(3, np.float32))
    with pytest.raises(oxe.OXEError, match="codes up to 300, expected bytes"):
        read(np.array([300, 1]))
    with pytest.raises(oxe.OXEError, match="utf-8"):
        read(b"\xff")

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.checkpoints import native
from rt1_jax.models.rt1 import RT1


@pytest.fixture(scope="module")
def variables():
    model = RT1(small.small_model())
    images, embeddings = np.zeros((1, 3, 16, 16, 3), np.uint8), np.zeros((1, 512), np.float32)
    return jax.tree.map(np.asarray, jax.jit(model.init)(jax.random.key(0), images, embeddings))


@pytest.fixture
def description():
    return native.PolicyDescription(
        architecture="rt1",
        model=small.small_model().to_json(),
        action_spec=TABLETOP,
        encoder=small.HashEncoder().identity,
        embedding_statistics=small.embedding_statistics(components=6),
        image_size=(16, 20),
        frame_rate=3.0,
        step=7,
        source={"run": "test"},
    )


@pytest.fixture
def saved(tmp_path, description, variables):
    path = tmp_path / "checkpoint"
    native.save_checkpoint(path, description, variables)
    return path


def test_round_trip(saved, description, variables):
    again = native.read_description(saved)
    assert again.to_json() == description.to_json()
    assert again.action_spec == TABLETOP
    loaded = native.load_variables(saved)
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    for one, other in zip(jax.tree.leaves(loaded), jax.tree.leaves(variables), strict=True):
        assert isinstance(one, np.ndarray)
        np.testing.assert_array_equal(one, other)


def test_it_is_not_overwritten(saved, description, variables):
    with pytest.raises(native.CheckpointError, match="exists already"):
        native.save_checkpoint(saved, description, variables)


def test_nothing_is_left_under_its_name_when_saving_fails(tmp_path, description, variables):
    bad = dataclasses.replace(description, source={"not JSON": object()})
    with pytest.raises(TypeError):
        native.save_checkpoint(tmp_path / "checkpoint", bad, variables)
    assert not (tmp_path / "checkpoint").exists()
    with pytest.raises(native.CheckpointError, match="no checkpoint at"):
        native.find_checkpoint(tmp_path / "checkpoint")


def test_the_newest_of_a_run(tmp_path, description, variables):
    for step in (2, 10, 9):
        native.save_checkpoint(tmp_path / "checkpoints" / str(step), description, variables)
    (tmp_path / "checkpoints" / ".11.partial").mkdir()
    assert native.list_checkpoints(tmp_path) == [2, 9, 10]
    assert native.find_checkpoint(tmp_path).name == "10"


def edit_config(path, **changes):
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_newer_version_is_refused(saved):
    edit_config(saved, version=99)
    with pytest.raises(native.CheckpointError, match="version 99"):
        native.read_description(saved)


def test_a_missing_key_is_named(saved):
    content = json.loads((saved / "config.json").read_text())
    del content["encoder"]
    (saved / "config.json").write_text(json.dumps(content))
    with pytest.raises(native.CheckpointError, match="encoder"):
        native.read_description(saved)


def test_a_tensor_of_another_shape_is_named(saved):
    tensors = json.loads((saved / "config.json").read_text())["tensors"]
    name = next(iter(tensors))
    edit_config(saved, tensors={**tensors, name: "float32[1, 2]"})
    with pytest.raises(native.CheckpointError, match=name):
        native.load_variables(saved)


def test_damaged_data_is_an_error(saved):
    for file in (saved / "variables").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(native.CheckpointError, match="cannot be restored"):
        native.load_variables(saved)


def test_an_inference_checkpoint_cannot_be_resumed(saved):
    with pytest.raises(native.CheckpointError, match="no training state"):
        native.load_training(saved, None)


def test_the_way_to_an_action_imports_no_tensorflow(tmp_path, description, variables):
    plain = dataclasses.replace(description, embedding_statistics=None)
    native.save_checkpoint(tmp_path / "policy", plain, variables)
    code = (
        "import sys, numpy as np, rt1_jax\n"
        "policy = rt1_jax.load_policy(sys.argv[1])\n"
        "image, embedding = np.zeros((1, 16, 20, 3), np.uint8), np.zeros((1, 512), np.float32)\n"
        "_, action = policy.step(policy.initial_state(), image, embedding)\n"
        "assert np.asarray(action['world_vector']).shape == (1, 3)\n"
        "heavy = {'tensorflow', 'tensorflow_hub', 'mujoco', 'matplotlib', 'torch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "policy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""The exported StableHLO: loaded without this package, it acts as the policy does."""

from __future__ import annotations

import json
import shutil

import exported
import jax
import numpy as np
import pytest

from rt1_jax.models import depthwise
from rt1_jax.policies.export import stablehlo
from rt1_jax.policies.export.export import export_policy
from rt1_jax.policies.export.functions import PolicyFunctions
from rt1_jax.policies.export.standalone import ExportedPolicy, ExportedPolicyError

SIZE = (20, 24)  # of the camera: the programs resize to the 16 x 16 that the models were made for
NAMES = tuple(exported.configs())


@pytest.fixture(scope="module")
def policies():
    return {name: exported.make_policy(name) for name in NAMES}


@pytest.fixture(scope="module")
def folder(policies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stablehlo")
    for name, policy in policies.items():
        export_policy(policy, folder / name, formats=["stablehlo"], image_size=SIZE)
    return folder


@pytest.fixture(scope="module")
def results(policies, folder):
    return exported.run_apart("stablehlo", policies, folder, SIZE)


@pytest.mark.parametrize(("name", "batch"), exported.CASES)
def test_a_rollout_without_this_package_is_the_policys(policies, results, name, batch):
    expected = exported.rollout(policies[name], exported.inputs(batch, SIZE))
    exported.assert_equal_rollouts(results[name, batch], expected, atol=1e-5)


def test_a_program_takes_the_lowering_of_each_platform(policies):
    functions = PolicyFunctions(policies["rt1"])
    arguments = functions.step_arguments(1)
    grouped = "feature_group_count = 16"  # of the expanded 8 channels
    texts = {
        platforms: stablehlo.lower(functions.step, arguments, platforms).mlir_module()
        for platforms in (("cpu",), ("tpu",), ("cuda",), ("cpu", "cuda", "tpu"))
    }
    assert "stablehlo.convolution" not in texts["cpu",]
    assert grouped in texts["tpu",]
    assert grouped in texts["cuda",]
    assert grouped in texts["cpu", "cuda", "tpu"]
    # ... and what is traced for this process alone holds one.
    alone = jax.jit(functions.step).lower(*arguments).as_text()
    assert ("stablehlo.convolution" in alone) == (depthwise.resolve_lowering("auto") == "grouped")
    assert "stablehlo.case" not in alone


def test_weights_are_beside_the_program_not_in_it(policies, folder):
    root = folder / "rt1" / "stablehlo"
    functions = PolicyFunctions(policies["rt1"])
    with np.load(root / "weights.npz") as archive:
        assert set(archive.files) == set(functions.weights)
        for name in archive.files:
            np.testing.assert_array_equal(archive[name], functions.weights[name])
    # Another set of weights is another policy, without another export.
    loaded = ExportedPolicy(root)
    given = exported.inputs(1, SIZE)
    before = loaded.logits(given["images"][:1].swapaxes(0, 1), given["embeddings"])
    loaded._weights = jax.tree.map(np.zeros_like, loaded._weights)
    after = loaded.logits(given["images"][:1].swapaxes(0, 1), given["embeddings"])
    assert np.abs(np.asarray(before)).max() > 0.1
    assert not np.asarray(after).any()


def test_the_config_says_what_goes_in_and_what_comes_out(policies, folder):
    config = json.loads((folder / "rt1" / "stablehlo" / "config.json").read_text())
    assert config["inputs"]["images"]["shape"] == ["b", *SIZE, 3]
    assert config["inputs"]["embeddings"]["shape"] == ["b", 512]
    assert config["logits"]["shape"] == ["b", 11, 256]
    assert config["actions"]["world_vector"]["high"] == [0.05] * 3
    assert config["policy"]["encoder"]["name"] == "stored:hash"
    assert config["programs"]["step"]["platforms"] == ["cpu", "cuda", "tpu"]
    assert config["libraries"]["jax"] == jax.__version__
    assert set(config["state"]) == set(PolicyFunctions(policies["rt1"]).state)


def test_a_step_is_compiled_once(folder):
    loaded = ExportedPolicy(folder / "rt1" / "stablehlo")
    given, state = exported.inputs(3, SIZE), loaded.initial_state(3)
    for image, start in zip(given["images"][:3], given["starts"], strict=False):
        state, _ = loaded.step(loaded.reset(state, start), image, given["embeddings"])
    assert loaded._programs["step"]._cache_size() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, *SIZE, 3), np.float32)}, "images: got float32"),
        ({"images": np.zeros((2, 16, 16, 3), np.uint8)}, r"expected uint8 \[2, 20, 24, 3\]"),
        ({"images": np.zeros((1, *SIZE, 3), np.uint8)}, r"expected uint8 \[2, 20"),
        ({"embeddings": np.zeros((2, 100), np.float32)}, r"embeddings: .* expected float32 \[2, 5"),
        ({"embeddings": np.full((2, 512), np.nan, np.float32)}, "embeddings: .* not finite"),
        ({"state": {"tokens": np.zeros((2, 3, 2, 16), np.float32)}}, "state has .* expected"),
        ({"state": None}, "state has NoneType"),
        ({"count": np.zeros(2, np.float32)}, "state 'count': got float32"),
        ({"tokens": np.zeros((2, 3, 2, 17), np.float32)}, "state 'tokens': got .*17"),
    ],
)
def test_a_bad_input_is_named(folder, change, message):
    loaded = ExportedPolicy(folder / "rt1" / "stablehlo")
    arguments = {
        "state": loaded.initial_state(2),
        "images": np.zeros((2, *SIZE, 3), np.uint8),
        "embeddings": np.zeros((2, 512), np.float32),
    }
    for key, value in change.items():
        if key in arguments:
            arguments[key] = value
        else:
            arguments["state"][key] = value
    with pytest.raises(ExportedPolicyError, match=message):
        loaded.step(**arguments)


def test_a_bad_mask_or_window_is_named(folder):
    loaded = ExportedPolicy(folder / "rt1" / "stablehlo")
    with pytest.raises(ExportedPolicyError, match=r"mask is int64 \(2,\), expected bool \[2\]"):
        loaded.reset(loaded.initial_state(2), np.ones(2, int))
    with pytest.raises(ExportedPolicyError, match=r"t in 1\.\.3"):
        loaded.logits(np.zeros((1, 4, *SIZE, 3), np.uint8), np.zeros((1, 512), np.float32))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder / "rt1" / "stablehlo", tmp_path / "copy")


def change_config(root, change):
    config = json.loads((root / "config.json").read_text())
    change(config)
    (root / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(kind="onnx"), "'onnx'.*use the policy.py of that directory"),
        (lambda c: c.update(version=9), "use the policy.py"),
        (lambda c: c.pop("state"), "lacks 'state'"),
        (lambda c: c["programs"]["step"].update(platforms=["tpu"]), "--platforms=tpu,cpu"),
        (
            lambda c: c["programs"]["step"].update(calling_convention_version=99),
            "install a newer jax",
        ),
        (lambda c: c["programs"]["step"].update(calling_convention_version=1), "export again"),
        (lambda c: c["weights"]["tensors"].popitem(), "disagree on 1 arrays"),
        (
            lambda c: next(iter(c["weights"]["tensors"].values())).update(shape=[1]),
            "weights.npz, '.*': got",
        ),
    ],
)
def test_a_directory_that_does_not_fit_is_named(copy, change, message):
    change_config(copy, change)
    with pytest.raises(ExportedPolicyError, match=message):
        ExportedPolicy(copy)


@pytest.mark.parametrize("name", ["config.json", "step.jax_export", "weights.npz"])
def test_a_missing_or_damaged_file_is_named(copy, name):
    path = copy / name
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    path.write_bytes(data[:middle])
    with pytest.raises(ExportedPolicyError, match=name):
        ExportedPolicy(copy)
    if name != "config.json":
        data[middle] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(ExportedPolicyError, match=f"{name} is damaged"):
            ExportedPolicy(copy)
    path.unlink()
    with pytest.raises(ExportedPolicyError, match=f"{name} cannot be read"):
        ExportedPolicy(copy)


def test_what_was_made_for_a_tpu_says_so_here(policies, tmp_path):
    export_policy(policies["bc_z"], tmp_path / "p", formats=["stablehlo"], platforms=["tpu"])
    with pytest.raises(ExportedPolicyError, match="made for tpu, and this is cpu"):
        ExportedPolicy(tmp_path / "p" / "stablehlo")

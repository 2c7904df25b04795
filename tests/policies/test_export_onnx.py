"""The exported ONNX model: onnxruntime alone steps it, and it acts as the policy does."""

from __future__ import annotations

import json
import sys

import exported
import pytest

from rt1_jax.policies.export.export import export_policy
from rt1_jax.policies.export.functions import ExportError

SIZE = (20, 24)


@pytest.fixture(scope="module")
def policies():
    for package in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(
            package,
            reason=f"{package} is not installed: pip install '.[onnx]' into an environment of its "
            "own (it needs an older orbax-checkpoint than requirements.lock has)",
        )
    return {name: exported.make_policy(name) for name in exported.configs()}


@pytest.fixture(scope="module")
def folder(policies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    for name, policy in policies.items():
        export_policy(policy, folder / name, formats=["onnx"], image_size=SIZE)
    return folder


@pytest.fixture(scope="module")
def results(policies, folder):
    return exported.run_apart("onnx", policies, folder, SIZE)


@pytest.mark.parametrize(("name", "batch"), exported.CASES)
def test_a_rollout_without_this_package_is_the_policys(policies, results, name, batch):
    expected = exported.rollout(policies[name], exported.inputs(batch, SIZE))
    exported.assert_equal_rollouts(results[name, batch], expected, atol=1e-4)


def test_depthwise_convolution_stays_one(policies, folder):
    import onnx

    model = onnx.load(folder / "rt1" / "onnx" / "step.onnx")
    groups = [
        attribute.i
        for node in model.graph.node
        if node.op_type == "Conv"
        for attribute in node.attribute
        if attribute.name == "group"
    ]
    assert max(groups) == 16
    config = json.loads((folder / "rt1" / "onnx" / "config.json").read_text())
    assert config["libraries"]["onnx"] == onnx.__version__


def test_a_missing_converter_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(ExportError, match=r"pip install 'rt1_jax\[onnx\]'"):
        export_policy(exported.make_policy("bc_z"), tmp_path / "p", formats=["onnx"])
    assert not any(tmp_path.iterdir())

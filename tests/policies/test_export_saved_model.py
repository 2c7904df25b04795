"""The exported SavedModel: TensorFlow alone loads it, and it acts as the policy does."""

from __future__ import annotations

import json

import exported
import pytest

from rt1_jax.policies.export.export import export_policy
from rt1_jax.policies.export.functions import PolicyFunctions

SIZE = (20, 24)


def export_all(policies, folder):
    for name, policy in policies.items():
        export_policy(policy, folder / name, formats=["saved_model"], image_size=SIZE)
    return exported.run_apart("saved_model", policies, folder, SIZE)


def assert_equal(policies, results):
    for (name, batch), found in results.items():
        expected = exported.rollout(policies[name], exported.inputs(batch, SIZE))
        exported.assert_equal_rollouts(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def policy():
    return exported.make_policy("rt1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved_model")


@pytest.fixture(scope="module")
def results(policy, folder):
    return export_all({"rt1": policy}, folder)


def test_a_rollout_without_this_package_is_the_policys(policy, results):
    assert set(results) == {("rt1", 1), ("rt1", 3)}
    assert "logits" in results["rt1", 3]
    assert "window" in results["rt1", 3]
    assert_equal({"rt1": policy}, results)


@pytest.mark.slow
def test_so_it_is_for_other_decodings_and_architectures(tmp_path):
    policies = {name: exported.make_policy(name) for name in exported.configs() if name != "rt1"}
    results = export_all(policies, tmp_path)
    assert len(results) == len(policies)
    assert_equal(policies, results)


def test_the_config_names_the_signatures(policy, folder, results):
    config = json.loads((folder / "rt1" / "saved_model" / "config.json").read_text())
    states = {f"state_{name}" for name in PolicyFunctions(policy).state}
    inputs = {"image", "natural_language_embedding", "step_type"}
    step = config["signatures"]["serving_default"]
    assert set(step["inputs"]) == {*inputs, *states}
    assert set(step["outputs"]) == {"logits", *policy.action_spec.field_names, *states}
    assert config["platforms"] == ["cpu", "cuda", "tpu"]


def test_each_program_is_there_once_and_without_the_weights(policy, folder, results):
    from tensorflow.core.protobuf import saved_model_pb2

    data = (folder / "rt1" / "saved_model" / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(data).meta_graphs[0].graph_def
    nodes = [node for function in graph.library.function for node in function.node_def]
    assert [node.op for node in nodes].count("XlaCallModule") == 2  # the step and the window
    weights = [x.tobytes() for x in PolicyFunctions(policy).weights.values() if x.size > 64]
    assert len(weights) > 10
    assert not any(weight in data for weight in weights)

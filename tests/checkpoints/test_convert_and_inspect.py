"""The two commands: converting there and back, and saying what a checkpoint is."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from rt1_jax import actions, load_policy
from rt1_jax.checkpoints import convert, formats, inspect, native, tf_writer
from rt1_jax.checkpoints.layout import layout
from rt1_jax.models.config import EfficientNetConfig, TokenLearnerConfig, rt1_config


def small_config():
    base = rt1_config()
    return dataclasses.replace(
        base,
        image_tokenizer=dataclasses.replace(
            base.image_tokenizer,
            efficientnet=EfficientNetConfig(width_coefficient=1.0, depth_coefficient=1.0),
            token_size=16,
            token_learner=TokenLearnerConfig(tokens=4, hidden=8),
        ),
        transformer=dataclasses.replace(
            base.transformer, layers=1, heads=2, key_dim=4, d_model=24, feed_forward_size=24
        ),
        frames=2,
        bins=32,
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A checkpoint of the original's format, and its variables."""
    rng, config = np.random.default_rng(0), small_config()
    variables = {"params": {}, "batch_stats": {}}
    for leaf in layout(config):
        node = variables
        for key in leaf.path[:-1]:
            node = node.setdefault(key, {})
        value = 0.1 * rng.standard_normal(leaf.shape).astype(np.float32)
        node[leaf.path[-1]] = np.abs(value) if leaf.path[-1] == "var" else value
    prefix = tmp_path_factory.mktemp("original") / "ckpt-12"
    tf_writer.write_tf(prefix, config, variables, step=12)
    return prefix, variables


def test_to_native_and_back(original, tmp_path, capsys):
    prefix, variables = original
    assert convert.main([str(prefix), str(tmp_path / "native")]) == 0
    assert formats.detect_format(tmp_path / "native") == "native"
    description = native.read_description(tmp_path / "native")
    assert description.model == small_config().to_json()
    assert description.step == 12
    assert description.action_spec.bins == 32
    assert "universal-sentence-encoder-large/5" in description.encoder.name
    jax.tree.map(
        np.testing.assert_array_equal, native.load_variables(tmp_path / "native"), variables
    )
    back = tmp_path / "saved_model"
    assert convert.main([str(tmp_path / "native"), str(back), "--to", "tf_saved_model"]) == 0
    loaded = formats.read(back)
    assert (loaded.model_config, loaded.step) == (small_config(), 12)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)
    assert convert.main([str(prefix), str(tmp_path / "native")]) == 1
    assert "exists already" in capsys.readouterr().err


def test_inspect_counts_parameters(original, tmp_path, capsys):
    prefix, variables = original
    assert inspect.main([str(prefix)]) == 0
    text = capsys.readouterr().out
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert f"parameters: {count:,}" in text
    assert "format: tf_checkpoint" in text
    assert "step: 12" in text
    assert "2 x dead weight" in text
    assert "SUSPICIOUS" not in text


def test_inspect_of_an_index_without_data(shared_dir, capsys):
    assert inspect.main([str(shared_dir / "golden" / "released" / "rt1main")]) == 1
    text = capsys.readouterr().out
    assert "network tensors: 732" in text
    assert "PROBLEM" in text
    assert "git-lfs pointer" in text


def test_inspect_points_at_what_is_suspicious():
    variables = {
        "params": {
            "a": {"kernel": np.array([1.0, np.nan])},
            "b": {"kernel": np.zeros((2, 2))},
            "c": {"kernel": np.array([1.0, 2.0])},
        },
        "batch_stats": {"a": {"var": np.array([1.0, -1.0])}},
    }
    problems = inspect.suspicious(variables)
    assert len(problems) == 3
    assert "params/a/kernel: 1 of 2 values are not finite" in problems
    assert "params/b/kernel: every value is 0" in problems
    assert "batch_stats/a/var: a variance is negative (-1)" in problems


def test_a_bad_path_is_one_line(tmp_path, capsys):
    for command in (inspect.main, lambda a: convert.main([*a, str(tmp_path / "out")])):
        assert command([str(tmp_path / "nothing")]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1


def test_a_policy_from_a_foreign_checkpoint(original):
    policy = load_policy(original[0])
    assert policy.action_spec == dataclasses.replace(actions.RT1, bins=32)
    images = np.zeros((1, 2, 40, 50, 3), np.uint8)
    logits = policy.logits(images, np.zeros((1, 2, 512), np.float32))
    assert logits.shape == (1, 2, 11, 32)
    assert np.isfinite(logits).all()

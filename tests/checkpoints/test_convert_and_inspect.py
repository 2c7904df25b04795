"""The two commands: converting there and back, and saying what a checkpoint is."""

from __future__ import annotations

import copy
import dataclasses

import jax
import numpy as np
import optax
import pytest

from rt1_jax import actions, load_policy
from rt1_jax.checkpoints import convert, formats, inspect, native, tf_writer
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.layout import layout
from rt1_jax.checkpoints.tf_bundle import TFBundle
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


def small_variables(seed=0):
    rng, config = np.random.default_rng(seed), small_config()
    variables = {"params": {}, "batch_stats": {}}
    for leaf in layout(config):
        node = variables
        for key in leaf.path[:-1]:
            node = node.setdefault(key, {})
        value = 0.1 * rng.standard_normal(leaf.shape).astype(np.float32)
        node[leaf.path[-1]] = np.abs(value) if leaf.path[-1] == "var" else value
    return variables


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A checkpoint of the original's format, and its variables."""
    config, variables = small_config(), small_variables()
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


@pytest.fixture(scope="module")
def with_moments(tmp_path_factory):
    """A training checkpoint with Adam's moments."""
    first = small_variables(1)["params"]
    second = jax.tree.map(np.square, small_variables(2)["params"])
    moments = AdamMoments(first, second, iterations=1234, learning_rate=float(np.float32(1e-4)))
    prefix = tmp_path_factory.mktemp("with_moments") / "ckpt-1234"
    tf_writer.write_tf(prefix, small_config(), small_variables(), step=1234, moments=moments)
    return prefix, moments


def test_adams_moments_go_to_native_and_back_whole(with_moments, tmp_path):
    prefix, moments = with_moments
    convert.convert(prefix, tmp_path / "native")
    loaded = native.load_adam_moments(tmp_path / "native")
    for name in ("first", "second"):
        jax.tree.map(np.testing.assert_array_equal, getattr(loaded, name), getattr(moments, name))
    assert (loaded.iterations, loaded.learning_rate) == (1234, moments.learning_rate)
    convert.convert(tmp_path / "native", tmp_path / "copy")  # native to native keeps them too
    back = tmp_path / "back" / "ckpt-1"
    convert.convert(tmp_path / "copy", back, "tf_checkpoint")
    before, after = TFBundle(prefix), TFBundle(back)
    assert set(before.shapes) == set(after.shapes)
    assert sum("_actor_optimizer" in name for name in before.shapes) > 500
    for name in set(before.shapes) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        one, other = before.read(name), after.read(name)
        assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes()), name


def test_a_moment_of_another_shape_is_named(with_moments, tmp_path):
    prefix, moments = with_moments
    odd = copy.deepcopy(moments)
    odd.second["transformer"]["token_embedding"]["bias"] = np.zeros(5, np.float32)
    description = formats.read(prefix).description()
    native.save_checkpoint(tmp_path / "odd", description, small_variables(), moments=odd)
    with pytest.raises(native.CheckpointError, match=r"adam/second: 1 .*token_embedding/bias"):
        native.load_adam_moments(tmp_path / "odd")


def test_a_checkpoint_without_moments_says_so(original, tmp_path, capsys):
    convert.convert(original[0], tmp_path / "native")
    assert native.load_adam_moments(tmp_path / "native") is None
    assert inspect.main([str(tmp_path / "native")]) == 0
    assert "Adam's moments: none" in capsys.readouterr().out


def test_inspect_mentions_moments(with_moments, tmp_path, capsys):
    convert.convert(with_moments[0], tmp_path / "native")
    for path in (with_moments[0], tmp_path / "native"):
        assert inspect.main([str(path)]) == 0
        text = capsys.readouterr().out
        assert "Adam's moments: present, after 1,234 iterations, learning rate 0.0001" in text
        assert "SUSPICIOUS" not in text


def test_moments_continue_in_optax():
    params = {"dense": {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)}}
    first = jax.tree.map(lambda p: 0.5 * p, params)
    moments = AdamMoments(first, params, iterations=1234, learning_rate=None)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    state = moments.put_into(optimizer.init(params))
    adam = state[1][0]
    assert int(adam.count) == 1234
    jax.tree.map(np.testing.assert_array_equal, (adam.mu, adam.nu), (first, params))
    _, after = jax.jit(optimizer.update)(params, state, params)
    assert int(after[1][0].count) == 1235
    with pytest.raises(ValueError, match="0 states of Adam"):
        moments.put_into(optax.sgd(0.1).init(params))
    with pytest.raises(ValueError, match="not of the parameters"):
        moments.put_into(optax.adam(0.1).init({"w": np.zeros(3)}))


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


def test_a_shipped_policy_goes_by_its_name(tmp_path, capsys):
    assert inspect.main(["tabletop-small"]) == 0
    assert "action spec: tabletop" in capsys.readouterr().out
    assert convert.main(["tabletop-small", str(tmp_path / "copy")]) == 0
    assert native.read_description(tmp_path / "copy").action_spec == actions.TABLETOP


def test_a_path_in_a_bucket_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bucket = "gs://bucket/rt_1_x_jax"
    for command in (inspect.main, lambda a: convert.main([*a, "out"])):
        assert command([bucket]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: {bucket}: checkpoints are read from disk")
        assert f"gsutil -m cp -r {bucket} ." in error
    assert convert.main(["tabletop-small", bucket]) == 1
    assert "then copy it" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
    with pytest.raises(formats.CheckpointError, match="https://a/b: .*copy it here first and give"):
        load_policy("https://a/b")


def test_a_policy_from_a_foreign_checkpoint(original):
    policy = load_policy(original[0])
    assert policy.action_spec == dataclasses.replace(actions.RT1, bins=32)
    images = np.zeros((1, 2, 40, 50, 3), np.uint8)
    logits = policy.logits(images, np.zeros((1, 2, 512), np.float32))
    assert logits.shape == (1, 2, 11, 32)
    assert np.isfinite(logits).all()

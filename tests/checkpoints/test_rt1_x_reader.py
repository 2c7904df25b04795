"""Readers of the RT-1-X Flax code's checkpoints: msgpack files and Orbax directories."""

from __future__ import annotations

import dataclasses

import golden_reference
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import recipe_checkpoints
from flax import serialization, traverse_util

from rt1_jax import actions
from rt1_jax.checkpoints import formats, rt1_x_names
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.models.config import (
    EfficientNetConfig,
    TokenLearnerConfig,
    oxe_rt1_config,
    rt1_x_config,
)


def small_config(**transformer):
    """The smallest network that the RT-1-X code's names can hold: EfficientNet-B0."""
    base = oxe_rt1_config()
    efficientnet = EfficientNetConfig(
        width_coefficient=1.0, depth_coefficient=1.0, padding="same", batch_norm_unbiased=False
    )
    return dataclasses.replace(
        base,
        image_tokenizer=dataclasses.replace(
            base.image_tokenizer,
            efficientnet=efficientnet,
            token_size=16,
            token_learner=TokenLearnerConfig(tokens=4, hidden=8),
        ),
        transformer=dataclasses.replace(
            base.transformer,
            **{"layers": 2, "heads": 2, "key_dim": 4, "d_model": 24, "feed_forward_size": 24}
            | transformer,
        ),
        frames=3,
        embedding_size=20,
    )


def foreign_tree(config, seed=0):
    """Random tensors in the nesting of the RT-1-X code, with a train state's other entries."""
    rng = np.random.default_rng(seed)
    flat = {
        t.name: rng.standard_normal(t.shape).astype(np.float32)
        for t in rt1_x_names.named_tensors(config)
    }
    tree = traverse_util.unflatten_dict(flat, sep="/")
    extra = {"step": np.asarray(1234), "opt_state": {"0": {"count": np.asarray(7)}}}
    return flat, {**tree, **extra}


def check(loaded, kind, config, flat):
    assert loaded.format == kind
    assert loaded.model_config == config
    assert loaded.step == 1234
    assert set(loaded.ignored) == {"step", "opt_state/0/count"}
    for tensor in rt1_x_names.named_tensors(config):
        own = golden_reference.at(loaded.variables, tensor.path)
        np.testing.assert_array_equal(own.reshape(tensor.shape), flat[tensor.name])


@pytest.mark.parametrize(
    "config",
    [small_config(), small_config(feed_forward="swiglu", feed_forward_size=40)],
    ids=["linear", "swiglu"],
)
def test_msgpack_file_and_its_folder(tmp_path, config):
    flat, tree = foreign_tree(config)
    (tmp_path / "checkpoint_9").write_bytes(b"older")
    file = tmp_path / "checkpoint_1234"
    file.write_bytes(serialization.msgpack_serialize(tree))
    for path in (file, tmp_path):
        assert formats.detect_format(path) == "rt1_x_msgpack"
        check(formats.read(path), "rt1_x_msgpack", config, flat)


def test_without_token_learner(tmp_path):
    base = small_config()
    tokenizer = dataclasses.replace(base.image_tokenizer, token_learner=None)
    config = dataclasses.replace(base, image_tokenizer=tokenizer)
    flat, tree = foreign_tree(config)
    file = tmp_path / "checkpoint_1"
    file.write_bytes(serialization.msgpack_serialize(tree))
    assert config.image_tokenizer.tokens == 100
    check(formats.read(file), "rt1_x_msgpack", config, flat)


@pytest.mark.parametrize("layout", ["pytree", "manager"])
def test_orbax_directory(tmp_path, layout):
    config = small_config()
    flat, tree = foreign_tree(config)
    if layout == "pytree":
        path = tmp_path / "checkpoint_1234"
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(path, tree)
    else:
        path = tmp_path / "run"
        with ocp.CheckpointManager(path) as manager:
            manager.save(1234, args=ocp.args.StandardSave(tree))
    assert formats.detect_format(path) == "rt1_x_orbax"
    check(formats.read(path), "rt1_x_orbax", config, flat)


def test_the_released_size_and_its_action_spec(shared_dir, tmp_path):
    config = rt1_x_config()
    file = recipe_checkpoints.write(shared_dir, tmp_path, "rt1_x_msgpack", config, seed=0)
    loaded = formats.read(file)
    assert loaded.model_config == config
    assert loaded.action_spec == actions.RT1_X
    assert not loaded.ignored
    jax.tree.map(
        np.testing.assert_array_equal,
        loaded.variables,
        golden_reference.rt1_x_variables(shared_dir, config),
    )


@pytest.fixture
def damaged(tmp_path):
    """Writes a changed small checkpoint and gives its path."""

    def write(change):
        _, tree = foreign_tree(small_config())
        change(tree)
        file = tmp_path / "checkpoint_1"
        file.write_bytes(serialization.msgpack_serialize(tree))
        return file

    return write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t["params"]["Transformer_0"]["TransformerBlock_1"].pop("Dense_0"),
            "tensor 'params/Transformer_0/TransformerBlock_1/Dense_0/kernel' is missing",
        ),
        (
            lambda t: t["params"]["Transformer_0"]["Dense_0"].update(bias=np.zeros(5, np.float32)),
            r"Transformer_0/Dense_0/bias' has shape \(5,\), expected \(24,\)",
        ),
        (lambda t: t["params"].update(adapter=np.zeros(3)), "not RT-1-X's.*'params/adapter'"),
        (lambda t: t.pop("params"), "not of RT-1-X"),
    ],
)
def test_tensors_that_do_not_fit(damaged, change, message):
    with pytest.raises(CheckpointError, match=message):
        formats.read(damaged(change))


def test_a_truncated_file(damaged):
    file = damaged(lambda tree: None)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="no whole msgpack file of Flax, it is truncated"):
        formats.read(file)


def test_a_git_lfs_pointer(tmp_path):
    file = tmp_path / "checkpoint_1"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 227000000\n")
    with pytest.raises(CheckpointError, match=r"git-lfs pointer.*227,000,000 bytes"):
        formats.read(file)


def test_a_damaged_orbax_directory(tmp_path):
    path = tmp_path / "checkpoint_1"
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, foreign_tree(small_config())[1])
    data = [file for file in path.rglob("*") if file.is_file() and file.stat().st_size > 100_000]
    for file in data:
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be restored as an Orbax checkpoint"):
        formats.read(path)

"""Readers of TensorFlow checkpoints: real indices, whole files of both name schemes, damage."""

from __future__ import annotations

import dataclasses
import shutil

import golden_reference
import jax
import numpy as np
import original
import pytest
import recipe_checkpoints

from rt1_jax.checkpoints import formats, tf_names, tf_reader, tf_writer
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.checkpoints.tf_bundle import TFBundle, import_tensorflow
from rt1_jax.models.config import (
    oxe_rt1_config,
    rt1_config,
    rt1_multirobot_config,
)

SUFFIX = tf_names.SUFFIX

RELEASED = {
    "rt1main": ("ckpt-424760", rt1_config(), 732),
    "rt1simreal": ("ckpt-660240", rt1_config(), 732),
    "rt1multirobot": ("ckpt-589960", rt1_multirobot_config(), 760),
}


def random_moments(config):
    first = original.random_variables(config, 1)["params"]
    second = jax.tree.map(np.square, original.random_variables(config, 2)["params"])
    return AdamMoments(first, second, iterations=77, learning_rate=0.5)


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A training checkpoint of a small model, with what was written."""
    config = original.small_config()
    variables, moments = original.random_variables(config), random_moments(config)
    prefix = tmp_path_factory.mktemp("small") / "ckpt-77"
    tf_writer.write_tf(prefix, config, variables, step=77, moments=moments)
    return prefix, config, variables, moments


def copied(prefix, folder):
    for file in prefix.parent.glob(f"{prefix.name}.*"):
        shutil.copy(file, folder)
    return folder / prefix.name


@pytest.mark.parametrize("kind", ["ckpt", "variables"])
@pytest.mark.parametrize("model", RELEASED)
def test_every_name_of_a_released_index_is_accounted_for(shared_dir, model, kind):
    checkpoint, config, count = RELEASED[model]
    folder = shared_dir / "golden" / "released" / model
    bundle = TFBundle(folder / (checkpoint if kind == "ckpt" else "variables/variables"))
    inventory = tf_reader.take_inventory(bundle)
    assert inventory.config == config
    assert len(inventory.network) == len(inventory.stored) == count
    assert len({t.path for t in inventory.network if t.path}) == count - 5
    used = {name for name, t in zip(inventory.stored, inventory.network, strict=True) if t.path}
    names = {name.removesuffix(SUFFIX) for name in bundle.shapes}
    slots = {name for name, tensor, _ in tf_reader.slot_names(config) if tensor.path}
    slots = slots if inventory.moments else set()
    assert used | slots | set(inventory.ignored) == names
    assert not (used | slots) & set(inventory.ignored)
    assert tf_reader.UNKNOWN not in inventory.ignored.values()
    if kind == "ckpt":
        assert inventory.moments == {"rt1multirobot": 1202}.get(model, 1146)


def test_order_of_the_optimizers_slots(shared_dir):
    golden = np.load(shared_dir / "golden" / "tf" / "golden_tf_seed0_train.npz")
    own = [tensor.name for tensor in tf_reader.trainable_tensors(rt1_config())]
    assert own == [str(name) for name in golden["names"]]


def test_a_git_lfs_pointer_is_named_with_its_size(shared_dir):
    folder = shared_dir / "golden" / "released" / "rt1main"
    with pytest.raises(CheckpointError, match=r"git-lfs pointer.*141,841,691 bytes.*git lfs pull"):
        formats.read(folder)
    with pytest.raises(CheckpointError, match=r"ckpt-424760\.data.* is missing"):
        formats.read(folder / "ckpt-424760")


@pytest.mark.parametrize("scheme", ["tf_checkpoint", "tf_saved_model"])
def test_the_whole_model_in_both_name_schemes(shared_dir, tmp_path, scheme):
    """Files written by TensorFlow alone, from the recipe's tensors under the original's names."""
    config = rt1_config()
    recipe_checkpoints.write(shared_dir, tmp_path, scheme, config, seed=0)
    assert formats.detect_format(tmp_path) == scheme
    loaded = formats.read(tmp_path)
    assert loaded.format == scheme
    assert loaded.model_config == config
    assert loaded.action_spec.bins == 256
    assert len(loaded.ignored) == 5
    assert_same(loaded.variables, golden_reference.tf_variables(shared_dir, config))


def test_a_training_checkpoint_with_moments_comes_back(small):
    prefix, config, variables, moments = small
    assert formats.detect_format(prefix) == "tf_checkpoint"
    for path in (prefix, prefix.with_name(prefix.name + ".index"), prefix.parent):
        loaded = formats.read(path)
        assert loaded.model_config == config
        assert loaded.step == 77
    assert_same(loaded.variables, variables)
    assert_same(loaded.optimizer_moments.first, moments.first)
    assert_same(loaded.optimizer_moments.second, moments.second)
    assert (loaded.optimizer_moments.iterations, loaded.optimizer_moments.learning_rate) == (
        77,
        0.5,
    )


def test_a_saved_models_variables_come_back(tmp_path, small):
    _, config, variables, _ = small
    prefix = tmp_path / "variables" / "variables"
    tf_writer.write_tf(prefix, config, variables, step=9, kind="tf_saved_model")
    for path in (tmp_path, tmp_path / "variables", prefix):
        assert formats.detect_format(path) == "tf_saved_model"
    loaded = formats.read(tmp_path)
    assert (loaded.model_config, loaded.step) == (config, 9)
    assert_same(loaded.variables, variables)


def test_what_is_written_restores_into_objects_of_the_originals_names(small):
    prefix, _, variables, _ = small
    tf = import_tensorflow()

    class Dense(tf.Module):
        def __init__(self, *shape):
            super().__init__()
            self.kernel = tf.Variable(tf.zeros(shape))
            self.bias = tf.Variable(tf.zeros(shape[-1:]))

    agent = tf.Module()
    agent._actor_network = tf.Module()
    agent._actor_network._transformer = tf.Module()
    layer = tf.Module()
    layer.ff = Dense(24, 24)
    agent._actor_network._transformer._layers = [tf.Module(), layer]
    agent._actor_network._transformer._token_emb = Dense(16, 24)
    status = tf.train.Checkpoint(agent=agent).restore(str(prefix))
    status.assert_existing_objects_matched().expect_partial()
    own = variables["params"]["transformer"]
    assert_same(layer.ff.kernel.numpy(), own["layer_1"]["feed_forward"]["linear"]["kernel"])
    embedding = agent._actor_network._transformer._token_emb
    assert_same(embedding.bias.numpy(), own["token_embedding"]["bias"])


def test_a_truncated_data_file(tmp_path, small):
    prefix = copied(small[0], tmp_path)
    data = tmp_path / f"{prefix.name}.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"tensor '.+' cannot be read.*truncated or damaged"):
        formats.read(prefix)


def test_a_flipped_bit_names_the_tensor(tmp_path, small):
    prefix = copied(small[0], tmp_path)
    data = tmp_path / f"{prefix.name}.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    name = f"{tf_names.ROOT}/_transformer/_token_emb/kernel"
    value = small[2]["params"]["transformer"]["token_embedding"]["kernel"].tobytes()
    content[content.index(value) + 10] ^= 4
    data.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=f"tensor '{name}' cannot be read"):
        formats.read(prefix)


def test_a_damaged_index(tmp_path, small):
    prefix = copied(small[0], tmp_path)
    index = tmp_path / f"{prefix.name}.index"
    index.write_bytes(index.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="no readable index"):
        formats.read(prefix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("_transformer/_layers/1/ff/bias"), r"_layers/1/ff/bias.* is missing"),
        (
            lambda t: t.update({"_transformer/_layers/1/ff/bias": np.zeros(7, np.float32)}),
            r"_layers/1/ff/bias.* has shape \(7,\), expected \(24,\)",
        ),
        (lambda t: t.update({"_other/kernel": np.zeros(1)}), r"not RT-1's.*_other/kernel"),
        (lambda t: t.clear() or t.update({"../x": np.zeros(1)}), "not of RT-1"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, small, change, message):
    _, config, variables, _ = small
    tensors = {
        name.removeprefix(f"{tf_names.ROOT}/"): value
        for name, value in tf_writer.network_tensors(config, variables).items()
    }
    change(tensors)
    root = {name: f"{tf_names.ROOT}/{name}".replace(f"{tf_names.ROOT}/../", "") for name in tensors}
    named = {root[name]: value for name, value in tensors.items()}
    recipe_checkpoints.write_tensors(tmp_path / "ckpt-1", named)
    with pytest.raises(CheckpointError, match=message):
        formats.read(tmp_path / "ckpt-1")


def test_a_model_that_the_original_cannot_hold_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="SAME padding"):
        tf_writer.write_tf(tmp_path / "ckpt-1", oxe_rt1_config(), {})


def test_unknown_formats_and_missing_paths(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        formats.read(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(CheckpointError, match="no known format"):
            formats.read(path)


def test_several_checkpoints_in_a_directory_must_be_named(tmp_path, small):
    for name in ("ckpt-1", "ckpt-2"):
        (tmp_path / f"{name}.index").write_bytes(b"")
    with pytest.raises(CheckpointError, match="name one of ckpt-1, ckpt-2"):
        formats.detect_format(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoding": "autoregressive"}, "such way of decoding"),
        ({"readout": "mean"}, "such way of decoding"),
    ],
)
def test_another_decoding_is_refused(tmp_path, changes, message):
    config = dataclasses.replace(original.small_config(), **changes)
    with pytest.raises(CheckpointError, match=message):
        tf_writer.write_tf(tmp_path / "ckpt-1", config, {})

"""ImageNet weights of Keras: the library's own features come out; files that do not fit."""

from __future__ import annotations

import dataclasses

import backbone_features
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.checkpoints import imagenet
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.models.rt1 import RT1, rt1_config


@pytest.fixture(scope="module")
def keras_model():
    """Keras' EfficientNet-B3 with top, random weights and statistics, and its features."""
    keras = pytest.importorskip("keras")
    model = keras.applications.EfficientNetB3(weights=None, input_shape=(64, 64, 3), classes=5)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "moving_variance" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("moving_mean", "beta", "bias")):
            weight.assign(0.1 * rng.standard_normal(weight.shape))
    features = keras.Model(model.input, model.get_layer("top_activation").output)
    return model, np.asarray(features(backbone_features.IMAGES * 255, training=False))


@pytest.mark.parametrize("file", ["b3.h5", "b3.weights.h5", "b3.keras"])
def test_keras(tmp_path, keras_model, file):
    model, features = keras_model
    path = tmp_path / file
    model.save_weights(path) if file.endswith("weights.h5") else model.save(path)
    backbone = imagenet.read_imagenet(path)
    assert (backbone.source, backbone.config.padding) == ("keras", "same")
    assert (backbone.config.width_coefficient, backbone.config.depth_coefficient) == (1.2, 1.4)
    assert any("classifier" in reason for reason in backbone.ignored.values())
    np.testing.assert_allclose(backbone_features.own_features(backbone), features, atol=2e-4)


def synthetic_keras_file(path, change=lambda tensors: None):
    """A legacy Keras file of an EfficientNet-B0, written without Keras."""
    h5py = pytest.importorskip("h5py")
    from rt1_jax.checkpoints import imagenet_names
    from rt1_jax.checkpoints.layout import efficientnet_layout
    from rt1_jax.models.config import EfficientNetConfig

    config = EfficientNetConfig(width_coefficient=1.0, depth_coefficient=1.0)
    names = imagenet_names.names("keras", config, {})
    tensors = {
        f"{names['/'.join(leaf.path[1:])]}:0": np.ones(leaf.stored_shape, np.float32)
        for leaf in efficientnet_layout(config, 1, ())
        if "film" not in leaf.path[1]
    }
    change(tensors)
    with h5py.File(path, "w") as file:
        for name, value in tensors.items():
            file[f"{name.split('/')[0]}/{name}"] = value
    return path


def test_a_backbone_goes_into_a_whole_model(tmp_path):
    backbone = imagenet.read_imagenet(synthetic_keras_file(tmp_path / "b0.h5"))
    config = rt1_config()
    with pytest.raises(CheckpointError, match="padding is 'keras', the pretrained backbone's"):
        imagenet.load_backbone({}, config, backbone)
    config = imagenet.with_backbone_conventions(config, backbone)
    images = jax.ShapeDtypeStruct((1, 1, 32, 32, 3), jnp.uint8)
    embeddings = jax.ShapeDtypeStruct((1, 512), jnp.float32)
    shapes = jax.eval_shape(RT1(config).init, jax.random.key(0), images, embeddings)
    variables = jax.tree.map(lambda s: np.full(s.shape, 7, s.dtype), shapes)
    loaded = imagenet.load_backbone(variables, config, backbone)
    assert jax.tree.map(np.shape, loaded) == jax.tree.map(lambda s: s.shape, shapes)
    own = loaded["params"]["image_tokenizer"]["efficientnet"]
    assert np.all(own["block_00"]["depthwise_conv"]["kernel"] == 1)
    assert np.all(own["film_03"]["multiply"]["kernel"] == 0)
    assert np.all(loaded["params"]["transformer"]["output_tokens"]["bias"] == 7)
    assert np.all(variables["params"]["image_tokenizer"]["efficientnet"]["stem_bn"]["scale"] == 7)
    assert dataclasses.replace(backbone.config) == backbone.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("block3a_se_reduce/bias:0"), "'block3a_se_reduce/bias' is missing"),
        (
            lambda t: t.update({"stem_bn/gamma:0": np.ones(3, np.float32)}),
            r"'stem_bn/stem_bn/gamma:0' has shape \(3,\).*expected \(32,\)",
        ),
        (lambda t: t.update({"adapter/kernel:0": np.ones(3)}), "not an EfficientNet's.*adapter"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        imagenet.read_imagenet(synthetic_keras_file(tmp_path / "b0.h5", change))


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        imagenet.read_imagenet(tmp_path / "b3.h5")
    (tmp_path / "b3.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="no known kind"):
        imagenet.read_imagenet(tmp_path / "b3.txt")
    (tmp_path / "b3.keras").write_bytes(b"PK\x03\x04broken")
    with pytest.raises(CheckpointError, match="is it damaged"):
        imagenet.read_imagenet(tmp_path / "b3.keras")

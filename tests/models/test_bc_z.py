"""BC-Z: sizes, no history, what is refused."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.models import bc_z
from rt1_jax.models.bc_z import BCZ, BCZConfig
from rt1_jax.models.json_config import ConfigError
from rt1_jax.models.resnet import ResNetConfig

CONFIG = BCZConfig(
    resnet=ResNetConfig(stages=(1, 1), filters=8, stem_kernel=3, max_pool=False, film=True),
    image_size=(16, 20),
    head_hidden=8,
    head_sizes=(3, 2, 1),
    embedding_size=6,
    coordinate_channels=2,
)
MODEL = BCZ(CONFIG)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 16, 20, 3)).astype(np.uint8)
    return images, rng.standard_normal((2, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def initial(inputs):
    return jax.jit(MODEL.init)(jax.random.key(0), *inputs)


@pytest.fixture(scope="module")
def variables(initial):
    """Initial variables with noise on everything, so that FiLM is not at its zero start."""
    rng = np.random.default_rng(3)
    noise = lambda v: v + 0.1 * rng.standard_normal(v.shape).astype(np.float32)
    return jax.tree.map(noise, initial)


@jax.jit
def apply(variables, images, embeddings):
    return MODEL.apply(variables, images, embeddings)


@jax.jit
def encode(variables, images, embeddings):
    return MODEL.apply(variables, images, embeddings, method="encode_frames")


@jax.jit
def decode(variables, tokens):
    return MODEL.apply(variables, tokens, method="decode_tokens")


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (bc_z.bc_z_config(), 14_332_493),
        (bc_z.bc_z_xl_config(), 34_372_373),  # RT-1 has 35,120,544
        (bc_z.bc_z_tabletop_config(), 237_613),
    ],
)
def test_parameters(config, parameters):
    images = jax.ShapeDtypeStruct((1, 1, *config.image_size, 3), jnp.uint8)
    embeddings = jax.ShapeDtypeStruct((1, config.embedding_size), jnp.float32)
    out, variables = jax.eval_shape(
        BCZ(config).init_with_output, jax.random.key(0), images, embeddings
    )
    assert out.shape == (1, 1, 13)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters


def test_xl_is_of_rt1s_size_and_tabletop_keeps_positions():
    assert abs(34_372_373 / 35_120_544 - 1) < 0.1
    tabletop = bc_z.bc_z_tabletop_config()
    assert tabletop.resnet.output_size(tabletop.image_size) == (8, 8)


def test_properties_of_the_config():
    assert CONFIG.decoding == "continuous"
    assert CONFIG.frame_shape == (1, 16)
    assert CONFIG.outputs == 6
    assert BCZConfig().outputs == 13
    assert BCZConfig.from_json(json.loads(json.dumps(CONFIG.to_json()))) == CONFIG


def test_call_is_decode_of_encode(variables, inputs):
    images, embeddings = inputs
    out = apply(variables, images, embeddings)
    assert out.shape == (2, 3, 6)
    assert out.dtype == jnp.float32
    encoded = encode(variables, images.reshape(6, 16, 20, 3), embeddings)
    assert encoded.shape == (6, *CONFIG.frame_shape)
    decoded = decode(variables, encoded.reshape(2, 3, 1, 16))
    np.testing.assert_allclose(decoded, out, atol=1e-5)
    repeated = np.repeat(embeddings[:, None], 3, axis=1)
    np.testing.assert_allclose(apply(variables, images, repeated), out, atol=1e-5)


def test_a_frame_changes_its_own_step_only(variables, inputs):
    images, embeddings = inputs
    changed = images.copy()
    changed[0, 1] = 255 - changed[0, 1]
    difference = np.abs(apply(variables, changed, embeddings) - apply(variables, *inputs)).max(-1)
    assert difference[0, 1] > 1e-3
    difference[0, 1] = 0
    assert difference.max() < 1e-6


def test_the_instruction_matters_once_film_has_moved(initial, variables, inputs):
    images, embeddings = inputs
    np.testing.assert_array_equal(
        apply(initial, images, embeddings), apply(initial, images, embeddings + 1)
    )
    difference = np.abs(
        apply(variables, images, embeddings + 1) - apply(variables, images, embeddings)
    )
    assert difference.max(-1).min() > 1e-4


def test_heads_share_nothing_but_the_features(variables):
    """The gradient of one head's outputs reaches no other head."""
    tokens = np.random.default_rng(1).standard_normal((1, 1, 1, 16)).astype(np.float32)

    def second_head(params):
        return jnp.sum(decode({**variables, "params": params}, tokens)[..., 3:5] ** 2)

    gradient = jax.jit(jax.grad(second_head))(variables["params"])
    reached = {
        name
        for name, branch in gradient.items()
        if any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(branch))
    }
    assert reached == {"head_1"}


def test_gradients_are_finite_and_reach_every_parameter(variables, inputs):
    @jax.jit
    def gradient(params):
        def loss(params):
            out, _ = MODEL.apply(
                {**variables, "params": params}, *inputs, train=True, mutable=["batch_stats"]
            )
            return jnp.mean((out - 1) ** 2)

        return jax.grad(loss)(params)

    for leaf in jax.tree.leaves(gradient(variables["params"])):
        assert np.all(np.isfinite(leaf))
        assert np.abs(leaf).max() > 0


def test_the_coordinates_tell_where_something_is(variables):
    """A patch that moves within an empty image changes the averaged features."""
    images = np.zeros((2, 16, 20, 3), np.uint8)
    images[0, 4:8, 4:8] = images[1, 8:12, 12:16] = 255
    features = encode(variables, images, np.zeros((1, 6), np.float32))
    assert np.abs(features[0] - features[1]).max() > 1e-3


def test_bfloat16_stays_close(variables, inputs):
    half = BCZ(dataclasses.replace(CONFIG, dtype="bfloat16"))
    out = jax.jit(half.apply)(variables, *inputs)
    assert out.dtype == jnp.float32
    reference = np.asarray(apply(variables, *inputs))
    np.testing.assert_allclose(out, reference, atol=0.03 * np.abs(reference).max(), rtol=0)


@pytest.mark.parametrize(
    ("images", "embeddings", "message"),
    [
        (np.zeros((2, 3, 8, 8, 3), np.float32), np.zeros((2, 6)), "BC-Z: expected uint8"),
        (np.zeros((2, 3, 8, 8, 4), np.uint8), np.zeros((2, 6)), r"\[n, h, w, 3\]"),
        (np.zeros((2, 3, 8, 8, 3), np.uint8), np.zeros((3, 6)), r"embeddings \(3, 6\)"),
        (np.zeros((2, 3, 8, 8, 3), np.uint8), np.zeros((2, 5)), r"embeddings \[m, 6\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 6)), r"images \[b, t, h, w, 3\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(variables, images, embeddings, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(MODEL.apply, variables, images, embeddings)


def test_frames_encoded_otherwise_are_refused(variables):
    with pytest.raises(ValueError, match=r"encoded frames \[b, t, 1, 16\]"):
        decode(variables, np.zeros((2, 3, 2, 16)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "int8"}, "dtype"),
        ({"coordinate_channels": 1}, "coordinate_channels"),
        ({"head_sizes": ()}, "head_sizes"),
        ({"frames": 0}, "frames"),
    ],
)
def test_impossible_values_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        BCZConfig(**fields)

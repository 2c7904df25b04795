"""Gato's tokens: which pixels a token sees, their order, what is refused."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.models.json_config import ConfigError
from rt1_jax.models.patch_tokenizer import PatchConv, PatchTokenizer, PatchTokenizerConfig

CONFIG = PatchTokenizerConfig(
    image_size=(16, 24), patch_size=8, token_size=12, cell_size=4, channels=8, groups=2
)
MODEL = PatchTokenizer(CONFIG)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 16, 24, 3)).astype(np.uint8)
    return images, rng.standard_normal((2, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def variables(inputs):
    return jax.jit(MODEL.init)(jax.random.key(0), *inputs)


@jax.jit
def apply(variables, images, embeddings):
    return MODEL.apply(variables, images, embeddings)


def test_shapes(variables, inputs):
    tokens = apply(variables, *inputs)
    assert CONFIG.grid == (2, 3)
    assert tokens.shape == (4, CONFIG.tokens, 12) == (4, 7, 12)
    assert tokens.dtype == jnp.float32
    larger = inputs[0].repeat(3, 1).repeat(3, 2)
    np.testing.assert_allclose(apply(variables, larger, inputs[1]), tokens, atol=1e-4)


def test_full_size():
    config = PatchTokenizerConfig()
    images = jax.ShapeDtypeStruct((6, 256, 320, 3), jnp.uint8)
    embeddings = jax.ShapeDtypeStruct((1, 512), jnp.float32)
    tokens, variables = jax.eval_shape(
        PatchTokenizer(config).init_with_output, jax.random.key(0), images, embeddings
    )
    assert tokens.shape == (6, 1 + 14 * 14, 512)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 878_912


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 2), (1, 1)])
def test_a_patch_changes_its_own_token_only(variables, inputs, row, column):
    """Raster order after the instruction's token, which depends on no pixel."""
    images, embeddings = inputs
    changed = images.copy()
    patch = changed[1, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
    patch[:] = 255 - patch
    difference = np.abs(apply(variables, changed, embeddings) - apply(variables, *inputs)).max(-1)
    token = 1 + 3 * row + column
    assert difference[1, token] > 1e-3
    difference[1, token] = 0
    assert difference.max() < 1e-6


def test_every_pixel_of_a_patch_counts(variables, inputs):
    images, embeddings = inputs
    tokens = apply(variables, images[:1], embeddings[:1])
    for y, x in ((0, 0), (3, 4), (7, 7)):
        changed = images[:1].copy()
        changed[0, y, x] = 255 - changed[0, y, x]
        assert np.abs(apply(variables, changed, embeddings[:1]) - tokens)[0, 1].max() > 1e-5


def test_equal_patches_differ_by_their_position_only(variables, inputs):
    """The same patch everywhere gives the same token but for the row's and column's vectors."""
    images = np.tile(inputs[0][:1, :8, :8], (1, 2, 3, 1))
    params = variables["params"]
    positions = params["row_embedding"][:, None] + params["column_embedding"]
    patches = apply(variables, images, inputs[1][:1])[0, 1:] - positions.reshape(6, 12)
    np.testing.assert_allclose(patches, np.broadcast_to(patches[:1], (6, 12)), atol=1e-5)


def test_the_instruction_changes_the_first_token_only(variables, inputs):
    """No early fusion: for two images each, as FiLM shares an embedding."""
    images, embeddings = inputs
    changed = embeddings.copy()
    changed[1] += 1
    difference = np.abs(apply(variables, images, changed) - apply(variables, *inputs)).max(-1)
    assert difference[2:, 0].min() > 1e-3
    difference[2:, 0] = 0
    assert difference.max() == 0


def test_pixels_are_scaled_as_in_the_paper(variables):
    """Mid-grey is 0 and white 1 / sqrt(patch size): seen through the first, linear layer."""
    levels = np.array([0, 255], np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (2, 16, 24, 3))
    _, state = MODEL.apply(
        variables,
        images,
        np.zeros((1, 6), np.float32),
        capture_intermediates=lambda module, _: module.name == "cells",
        mutable=["intermediates"],
    )
    (cells,) = state["intermediates"]["patch_embedding"]["cells"]["__call__"]
    white = variables["params"]["patch_embedding"]["cells"]["kernel"].sum(0) / np.sqrt(8)
    np.testing.assert_allclose(cells[0, 0, 0], -white, atol=1e-5)
    np.testing.assert_allclose(cells[-1, 1, 1], white, atol=1e-5)


def test_patch_conv_is_a_convolution():
    x = np.random.default_rng(1).standard_normal((3, 4, 4, 5)).astype(np.float32)
    module = PatchConv()
    variables = module.init(jax.random.key(0), x)
    expected = jax.lax.conv_general_dilated(
        x,
        variables["params"]["kernel"],
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


def test_gradients_are_finite_and_reach_every_parameter(variables, inputs):
    loss = lambda params: jnp.sum(MODEL.apply({"params": params}, *inputs) ** 2)
    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"])):
        assert np.all(np.isfinite(leaf))
        assert np.abs(leaf).max() > 0


def test_bfloat16_stays_close(variables, inputs):
    half = jax.jit(PatchTokenizer(CONFIG, jnp.bfloat16).apply)(variables, *inputs)
    assert half.dtype == jnp.bfloat16
    reference = np.asarray(apply(variables, *inputs))
    atol = 0.03 * np.abs(reference).max()
    np.testing.assert_allclose(np.asarray(half, np.float32), reference, atol=atol, rtol=0)


def test_a_constant_image_has_finite_gradients(variables, inputs):
    """GroupNorm of equal values divides by its epsilon only."""
    images = np.full((1, 16, 24, 3), 128, np.uint8)
    loss = lambda params: jnp.sum(MODEL.apply({"params": params}, images, inputs[1][:1]) ** 2)
    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"])):
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": (60, 64)}, "do not tile images"),
        ({"cell_size": 3}, "do not tile patches"),
        ({"groups": 3}, "3 groups"),
    ],
)
def test_impossible_values_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        PatchTokenizerConfig(**fields)


def test_json_round_trip():
    assert PatchTokenizerConfig.from_json(json.loads(json.dumps(CONFIG.to_json()))) == CONFIG

"""The whole model at a small size: what depends on what, and what is refused."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.models.attention_mask import attention_mask
from rt1_jax.models.config import (
    EfficientNetConfig,
    ImageTokenizerConfig,
    RT1Config,
    StageConfig,
    TokenLearnerConfig,
    TransformerConfig,
)
from rt1_jax.models.rt1 import RT1

CONFIG = RT1Config(
    image_tokenizer=ImageTokenizerConfig(
        efficientnet=EfficientNetConfig(
            stages=(StageConfig(1, 3, 1, 1, 8), StageConfig(2, 3, 2, 2, 12)),
            stem_filters=8,
            head_filters=0,
            width_coefficient=1.0,
            depth_coefficient=1.0,
            padding="same",
            stochastic_depth_rate=0.5,
            coordinate_channels=2,
        ),
        image_size=(16, 20),
        token_size=12,
        token_learner=TokenLearnerConfig(tokens=3, hidden=8),
    ),
    transformer=TransformerConfig(layers=2, heads=2, key_dim=4, d_model=16, dropout_rate=0.2),
    frames=3,
    action_tokens=4,
    bins=7,
    embedding_size=6,
)
MODEL = RT1(CONFIG)
RNGS = {"dropout": jax.random.key(1), "stochastic_depth": jax.random.key(2)}


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 16, 20, 3)).astype(np.uint8)
    return images, rng.standard_normal((2, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def variables(inputs):
    """Initial variables with noise on everything, so that FiLM is not at its zero start."""
    initial = jax.jit(MODEL.init)(jax.random.key(0), *inputs)
    rng = np.random.default_rng(3)
    return jax.tree.map(
        lambda v: v + 0.1 * np.abs(rng.standard_normal(v.shape)).astype(np.float32), initial
    )


@jax.jit
def apply(variables, images, embeddings):
    return MODEL.apply(variables, images, embeddings)


def test_shapes_and_dtypes(variables, inputs):
    logits = apply(variables, *inputs)
    assert logits.shape == (2, 3, 4, 7)
    assert logits.dtype == jnp.float32
    tokens = MODEL.apply(variables, inputs[0][:, 0], inputs[1], method="encode_frames")
    assert tokens.shape == (2, 3, 12)
    attention = MODEL.apply(variables, inputs[0][:, 0], inputs[1], method="token_attention")
    assert attention.shape == (2, 3, 20)
    np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)


def test_one_embedding_a_history_or_one_a_step_are_the_same(variables, inputs):
    images, embeddings = inputs
    repeated = np.repeat(embeddings[:, None], 3, axis=1)
    np.testing.assert_allclose(
        apply(variables, images, repeated), apply(variables, images, embeddings), atol=1e-5
    )
    changed = repeated.copy()
    changed[0, 2] += 1
    difference = np.abs(apply(variables, images, changed) - apply(variables, images, repeated))
    assert difference[0, 2].max() > 1e-4
    assert difference[0, :2].max() < 1e-6
    assert difference[1].max() < 1e-6


def test_a_frame_changes_its_own_and_later_steps_only(variables, inputs):
    images, embeddings = inputs
    changed = images.copy()
    changed[0, 1] = 255 - changed[0, 1]
    difference = np.abs(apply(variables, changed, embeddings) - apply(variables, *inputs))
    assert difference[0, 0].max() < 1e-6
    assert difference[0, 1].max() > 1e-4
    assert difference[0, 2].max() > 1e-4
    assert difference[1].max() < 1e-6


def test_action_logits_are_read_one_position_before_their_slots(variables):
    image_tokens = np.random.default_rng(1).standard_normal((2, 3, 3, 12)).astype(np.float32)
    everywhere = MODEL.apply(variables, image_tokens, method="decode_all")
    rows = MODEL.apply(variables, image_tokens, method="decode_tokens")
    assert everywhere.shape == (2, 21, 7)
    for step in range(3):
        for token in range(4):
            np.testing.assert_allclose(
                rows[:, step, token], everywhere[:, step * 7 + 2 + token], atol=1e-5
            )
    shorter = MODEL.apply(variables, image_tokens[:, :2], method="decode_tokens")
    np.testing.assert_allclose(shorter, rows[:, :2], atol=1e-5)


@pytest.mark.parametrize("sees", [True, False])
def test_attention_mask_by_its_definition(sees):
    mask = attention_mask(3, 2, 2, sees)
    for query in range(12):
        for key in range(12):
            query_acts, key_acts = query % 4 >= 2, key % 4 >= 2
            allowed = key <= query and not (key_acts and (query_acts or not sees))
            assert mask[query, key] == allowed, (query, key)


def test_training_draws_noise_and_moves_the_statistics(variables, inputs):
    @jax.jit
    def train(variables, rngs):
        return MODEL.apply(variables, *inputs, train=True, mutable=["batch_stats"], rngs=rngs)

    first, state = train(variables, RNGS)
    again, _ = train(variables, RNGS)
    other, _ = train(variables, {**RNGS, "stochastic_depth": jax.random.key(9)})
    dropped, _ = train(variables, {**RNGS, "dropout": jax.random.key(9)})
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    assert np.abs(first - dropped).max() > 1e-4
    backbone = ("batch_stats", "image_tokenizer", "efficientnet", "stem_bn")
    before, after = variables, state
    for key in backbone:
        before, after = before[key], after[key]
    assert np.abs(before["mean"] - after["mean"]).max() > 1e-4


def test_film_starts_at_identity(inputs):
    """Fresh, the instruction changes nothing: pretrained features would be kept."""
    initial = jax.jit(MODEL.init)(jax.random.key(0), *inputs)
    images, embeddings = inputs
    np.testing.assert_array_equal(
        apply(initial, images, embeddings), apply(initial, images, embeddings + 1)
    )


def test_images_of_any_size_are_resized(variables, inputs):
    images = np.repeat(np.repeat(inputs[0], 3, axis=2), 3, axis=3)
    larger = apply(variables, images, inputs[1])
    assert larger.shape == (2, 3, 4, 7)
    # Every pixel repeated three times: bilinear resizing samples at the centres of the originals.
    np.testing.assert_allclose(larger, apply(variables, *inputs), atol=1e-4)


def test_bfloat16_stays_close(variables, inputs):
    half = RT1(dataclasses.replace(CONFIG, dtype="bfloat16"))
    logits = jax.jit(half.apply)(variables, *inputs)
    assert logits.dtype == jnp.float32
    reference = np.asarray(apply(variables, *inputs))
    # Eight bits of mantissa through twenty layers.
    np.testing.assert_allclose(logits, reference, atol=0.03 * np.abs(reference).max(), rtol=0)


@pytest.mark.parametrize(
    ("images", "embeddings", "message"),
    [
        (np.zeros((2, 3, 8, 8, 3), np.float32), np.zeros((2, 6)), "uint8"),
        (np.zeros((2, 3, 8, 8, 4), np.uint8), np.zeros((2, 6)), r"\[n, h, w, 3\]"),
        (np.zeros((2, 3, 8, 8, 3), np.uint8), np.zeros((3, 6)), r"embeddings \(3, 6\)"),
        (np.zeros((2, 3, 8, 8, 3), np.uint8), np.zeros((2, 5)), r"embeddings \[m, 6\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 6)), r"images \[b, t, h, w, 3\]"),
        (np.zeros((2, 4, 8, 8, 3), np.uint8), np.zeros((2, 6)), "t at most 3"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(variables, images, embeddings, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(MODEL.apply, variables, images, embeddings)

"""The TensorFlow original, number by number: inference stages, rollout, preprocessing."""

from __future__ import annotations

import flax.linen as nn
import golden_reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax import actions, preprocessing
from rt1_jax.models.attention_mask import attention_mask
from rt1_jax.models.rt1 import RT1, rt1_config

CONFIG = rt1_config()
MODEL = RT1(CONFIG)


@pytest.fixture(scope="module")
def golden(shared_dir):
    return np.load(shared_dir / "golden" / "tf" / "golden_tf_seed0.npz")


@pytest.fixture(scope="module")
def blocks(shared_dir):
    return np.load(shared_dir / "golden" / "tf" / "golden_tf_seed0_blocks.npz")


@pytest.fixture(scope="module")
def variables(shared_dir):
    return golden_reference.tf_variables(shared_dir, CONFIG)


@jax.jit
def encode(variables, images, embeddings):
    return MODEL.apply(
        variables, images, embeddings, method="encode_frames", capture_intermediates=True
    )


@jax.jit
def decode(variables, image_tokens):
    return MODEL.apply(variables, image_tokens, method="decode_tokens")


@pytest.fixture(scope="module")
def frame(golden, variables):
    """What every module computes for one frame."""
    tokens, state = encode(variables, golden["images"][0, :1], golden["embeddings"][0, :1])
    return tokens, state["intermediates"]["image_tokenizer"]


@pytest.fixture(scope="module")
def image_tokens(golden, variables):
    """Image tokens of all frames, one history at a time to bound the memory."""
    images, embeddings = golden["images"], golden["embeddings"]
    tokens = [encode(variables, images[i], embeddings[i])[0] for i in range(len(images))]
    return jnp.stack(tokens)  # [b, t, tokens, token_size]


def output_of(module):
    return np.asarray(module["__call__"][0])


def test_preprocessing(golden):
    image = golden["images"][0, 0]
    scaled = preprocessing.scale_uint8(image)
    np.testing.assert_array_equal(scaled, golden["frame00/preprocessed"])
    resized = preprocessing.resize_images(scaled, (300, 300))
    np.testing.assert_allclose(resized * 255, golden["frame00/resized_x255"], atol=2e-5)
    np.testing.assert_allclose(
        preprocessing.preprocess_images(image, (300, 300)), golden["frame00/stem_input"], atol=2e-6
    )


def test_training_crop(golden):
    moved = preprocessing.shift_crop(golden["images"][0, :2], golden["train_crop/offset_yx"])
    np.testing.assert_array_equal(moved, golden["train_crop/frames01_uint8"])
    unmoved = preprocessing.shift_crop(golden["images"][0, :2], np.array([20, 50]))
    np.testing.assert_array_equal(unmoved, golden["images"][0, :2])


def test_stem_and_every_block(frame, blocks):
    backbone = frame[1]["efficientnet"]
    stem = nn.swish(output_of(backbone["stem_bn"])[0])
    np.testing.assert_allclose(stem, blocks["block00"], atol=2e-5)
    for index in range(26):
        np.testing.assert_allclose(
            output_of(backbone[f"film_{index:02d}"])[0],
            blocks[f"block{index + 1:02d}"],
            atol=2e-5,
            err_msg=f"block {index}",
        )


def test_features_and_tokens_of_a_frame(frame, golden):
    tokens, tokenizer = frame
    features = output_of(tokenizer["efficientnet"])[0]
    np.testing.assert_allclose(features, golden["frame00/efficientnet_features"], atol=2e-5)
    np.testing.assert_allclose(
        output_of(tokenizer["film"])[0], golden["frame00/after_conv1x1_film"], atol=2e-5
    )
    np.testing.assert_allclose(tokens[0], golden["image_tokens"][0, 0], atol=2e-5)


def test_image_tokens(image_tokens, golden):
    # Where TokenLearner's softmax is nearly one-hot, rounding grows: relative to the largest token.
    np.testing.assert_allclose(image_tokens, golden["image_tokens"], atol=5e-4)
    rms = np.sqrt(np.mean(np.square(image_tokens - golden["image_tokens"])))
    assert rms < 3e-5


def test_attention_mask(golden):
    mask = attention_mask(6, 8, 11, images_see_past_actions=True)
    np.testing.assert_array_equal(mask, golden["attention_mask"])
    assert mask.sum() == 4344


def test_logits_at_all_positions(image_tokens, variables, golden):
    logits = jax.jit(lambda v, t: MODEL.apply(v, t, method="decode_all"))(variables, image_tokens)
    np.testing.assert_allclose(logits, golden["transformer_logits"], atol=5e-4)


def test_action_logits_tokens_and_loss(image_tokens, variables, golden):
    logits = decode(variables, image_tokens)
    np.testing.assert_allclose(logits, golden["action_logits"], atol=5e-4)
    tokens = np.argmax(logits, axis=-1)
    np.testing.assert_array_equal(tokens, golden["predicted_tokens"])
    last = actions.RT1.detokenize(tokens[:, -1].astype(np.int32))
    for name, value in last.items():
        np.testing.assert_array_equal(value, golden[f"detok_last/{name}"], err_msg=name)
    labels = actions.RT1.tokenize({n: golden[f"action/{n}"] for n in actions.RT1.field_names})
    np.testing.assert_array_equal(labels, golden["action_tokens"])
    entropy = -jnp.take_along_axis(nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(entropy, golden["per_token_ce"], atol=2e-4)
    b, t = labels.shape[:2]
    per_step = entropy.mean(-1) / (b * t * 19)  # [b, t], the original's own scaling
    np.testing.assert_allclose(per_step, golden["actor_loss_bt"], atol=1e-6)
    np.testing.assert_allclose(per_step.mean(), golden["agent_loss"], atol=1e-7)
    not_last = golden["step_type_with_last"] != 2
    np.testing.assert_allclose(
        (per_step * not_last).mean(), golden["agent_loss_with_last"], atol=1e-7
    )


def test_rollout_with_state(variables, golden):
    history = np.zeros((6, 8, 512), np.float32)
    embedding = golden["rollout/embedding"][None]
    for step, image in enumerate(golden["rollout/images"]):
        if step >= 6:
            history = np.roll(history, -1, axis=0)
        position = min(step, 5)
        history[position] = encode(variables, image[None], embedding)[0][0]
        logits = decode(variables, history[None])[0, position]
        np.testing.assert_allclose(
            logits, golden["rollout/logits"][step], atol=5e-4, err_msg=f"step {step}"
        )
        tokens = np.argmax(logits, axis=-1).astype(np.int32)
        np.testing.assert_array_equal(tokens, golden["rollout/tokens"][step])
        for name, value in actions.RT1.detokenize(tokens).items():
            np.testing.assert_array_equal(value, golden[f"rollout/action/{name}"][step])
    np.testing.assert_allclose(history, golden["rollout/state_image_tokens_final"], atol=5e-4)

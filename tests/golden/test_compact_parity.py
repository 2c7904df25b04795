"""The TensorFlow original's numbers in every clone: one history, the tokenizer tables, the mask."""

from __future__ import annotations

import pathlib
import zlib

import jax
import numpy as np
import pytest
import recipe_weights

from rt1_jax import actions
from rt1_jax.checkpoints import tf_names
from rt1_jax.checkpoints.assemble import assemble
from rt1_jax.models.attention_mask import attention_mask
from rt1_jax.models.rt1 import RT1, rt1_config

CONFIG = rt1_config()


@pytest.fixture(scope="module")
def golden():
    return np.load(pathlib.Path(__file__).parent / "rt1_seed0.npz")


@pytest.fixture(scope="module")
def tensors():
    named = tf_names.named_tensors(CONFIG)
    return {t.name: recipe_weights.tf_value(t.name, t.shape, seed=0) for t in named}


def test_the_weights_are_the_references(tensors):
    digest = 0
    for name in sorted(tensors):
        digest = zlib.crc32(np.ascontiguousarray(tensors[name]).tobytes(), digest)
    assert digest == 2205853329


def test_one_history(golden, tensors):
    variables = assemble(tf_names.named_tensors(CONFIG), tensors.__getitem__, "recipe")
    model = RT1(CONFIG)
    # The same traced programs as in test_tf_parity, which the compilation cache then has.
    encode = jax.jit(
        lambda v, i, e: model.apply(v, i, e, method="encode_frames", capture_intermediates=True)
    )
    image_tokens = encode(variables, golden["images"], golden["embeddings"])[0]
    np.testing.assert_allclose(image_tokens, golden["image_tokens"], atol=5e-4)
    logits = jax.jit(lambda v, t: model.apply(v, t, method="decode_tokens"))(
        variables, image_tokens[None]
    )[0]
    np.testing.assert_allclose(logits, golden["action_logits"], atol=5e-4)
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), golden["predicted_tokens"])


def test_tokenizer_tables(golden):
    names = actions.RT1.field_names
    tokens = actions.RT1.tokenize({name: golden[f"table/action/{name}"] for name in names})
    np.testing.assert_array_equal(tokens, golden["table/tokens"])
    back = actions.RT1.detokenize(golden["detok_table/tokens"])
    for name in names:
        np.testing.assert_array_equal(back[name], golden[f"detok_table/{name}"])


def test_attention_mask(golden):
    np.testing.assert_array_equal(attention_mask(6, 8, 11, True), golden["attention_mask"])

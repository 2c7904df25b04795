"""The RT-1-X Flax code, number by number, in its RT-1 and its RT-1-X setting."""

from __future__ import annotations

import golden_reference
import jax
import numpy as np
import pytest

from rt1_jax import actions
from rt1_jax.models.attention_mask import attention_mask
from rt1_jax.models.rt1 import RT1, oxe_rt1_config, rt1_x_config

SETTINGS = {
    "oxe_rt1": (oxe_rt1_config(), actions.OXE_RT1),
    "oxe_rt1x": (rt1_x_config(), actions.RT1_X),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_attention_mask(shared_dir, setting):
    config, spec = SETTINGS[setting]
    mask = attention_mask(config.frames, config.image_tokenizer.tokens, spec.action_tokens, False)
    golden = np.load(shared_dir / "golden" / "oxe" / f"mask_{setting}.npz")["mask"]
    np.testing.assert_array_equal(mask, golden)


@pytest.mark.parametrize("setting", SETTINGS)
def test_tokens_logits_and_actions(shared_dir, setting):
    config, spec = SETTINGS[setting]
    golden = np.load(shared_dir / "golden" / "oxe" / f"golden_{setting}_seed0.npz")
    variables = golden_reference.rt1_x_variables(shared_dir, config)
    model = RT1(config)
    encode = jax.jit(lambda v, i, e: model.apply(v, i, e, method="encode_frames"))
    images, embeddings = golden["image"], golden["natural_language_embedding"]
    image_tokens = np.stack(
        [encode(variables, images[i], embeddings[i]) for i in range(len(images))]
    )
    np.testing.assert_allclose(image_tokens, golden["image_tokens"], atol=1e-4)
    logits = jax.jit(lambda v, t: model.apply(v, t, method="decode_tokens"))(
        variables, image_tokens
    )
    np.testing.assert_allclose(logits, golden["action_logits"], atol=1e-4)
    tokens = np.argmax(logits, axis=-1)
    np.testing.assert_array_equal(tokens, golden["predicted_tokens"])
    for name, value in spec.detokenize(tokens[:, -1]).items():
        np.testing.assert_allclose(value, golden[f"detokenized/{name}"], atol=5e-7, err_msg=name)
    if "all_logits" in golden.files:
        everywhere = jax.jit(lambda v, t: model.apply(v, t, method="decode_all"))(
            variables, image_tokens
        )
        np.testing.assert_allclose(everywhere, golden["all_logits"], atol=1e-4)

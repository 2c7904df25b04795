"""Attention's arithmetic against the formula, whatever is left out or unrolled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.models import attention
from rt1_jax.models.attention import attend

B, R, S, H, K = 2, 6, 9, 3, 4
RNG = np.random.default_rng(0)
QUERY, KEY, VALUE = (RNG.normal(size=(B, n, H, K)).astype(np.float32) for n in (R, S, S))
MASK = RNG.random((B, R, S)) < 0.5
MASK[..., 0] = True


def formula(query, key, value, mask):
    scores = np.einsum("brhk,bshk->bhrs", query.astype(np.float64), key)
    scores = np.where(np.broadcast_to(mask, (B, *mask.shape[-2:]))[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhrs,bshk->brhk", weights, value)


@pytest.mark.parametrize("unrolled", [0, 100])
@pytest.mark.parametrize("mask", [MASK, MASK[0], jnp.asarray(MASK)], ids=["each", "all", "traced"])
def test_attention_is_softmax(monkeypatch, unrolled, mask):
    monkeypatch.setattr(attention, "_UNROLLED", unrolled)
    found = jax.jit(lambda q, k, v: attend(q, k, v, mask))(QUERY, KEY, VALUE)
    np.testing.assert_allclose(found, formula(QUERY, KEY, VALUE, np.asarray(mask)), atol=1e-6)


def test_of_a_long_causal_mask_the_empty_half_is_left_out(monkeypatch):
    monkeypatch.setattr(attention, "_LONG", 1)
    monkeypatch.setattr(attention, "_ROWS", 2)
    causal = np.tril(np.ones((R, S), bool))
    seen = []
    plain = attention._attend
    monkeypatch.setattr(attention, "_attend", lambda *a: seen.append(a[1].shape[1]) or plain(*a))
    found = attend(*map(jnp.asarray, (QUERY, KEY, VALUE)), causal)
    np.testing.assert_allclose(found, formula(QUERY, KEY, VALUE, causal), atol=1e-6)
    assert seen == [2, 4, 6]


def test_masks_of_several_blocks_of_queries():
    blocks = (MASK[0, :2], jnp.asarray(MASK[:, 2:]))
    found = attend(QUERY, KEY, VALUE, blocks)
    np.testing.assert_allclose(
        found[:, :2], formula(QUERY[:, :2], KEY, VALUE, MASK[0, :2]), atol=1e-6
    )
    np.testing.assert_allclose(
        found[:, 2:], formula(QUERY[:, 2:], KEY, VALUE, MASK[:, 2:]), atol=1e-6
    )


def test_a_batch_of_unknown_size_is_exported():
    (b,) = jax.export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype) for x in (QUERY, KEY, VALUE)]
    exported = jax.export.export(jax.jit(lambda q, k, v: attend(q, k, v, MASK[0])))(*shapes)
    found = exported.call(QUERY, KEY, VALUE)
    np.testing.assert_allclose(found, formula(QUERY, KEY, VALUE, MASK[0]), atol=1e-6)

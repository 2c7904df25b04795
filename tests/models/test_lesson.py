"""The lesson's simplified model against the lesson's formulas, worked out by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.models.config import TokenLearnerConfig, TransformerConfig
from rt1_jax.models.film import FiLM
from rt1_jax.models.token_learner import TokenLearner
from rt1_jax.models.transformer import TransformerLayer


def test_token_learner_with_sigmoid_masks():
    """token_i = sum(mask_i x) / (sum(mask_i) + 1e-6), mask_i from 1x1 layers of its own."""
    learner = TokenLearner(TokenLearnerConfig(tokens=2, hidden=1, masks="sigmoid"))
    x = jnp.asarray([[[1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 4.0]]])  # 3 positions, c = 4
    params = {
        # Token 0 looks at the first channel, token 1 at the second.
        "hidden": {"kernel": jnp.eye(4, 2), "bias": jnp.asarray([0.0, -1.0])},
        "mask_kernel": jnp.asarray([[1.0], [2.0]]),
        "mask_bias": jnp.asarray([0.0, -1.0]),
    }
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    first = np.asarray([sigmoid(1.0), 0.5, 0.5])
    second = np.asarray([sigmoid(-1.0), sigmoid(2 * (2 - 1) - 1.0), sigmoid(-1.0)])
    expected = [
        np.asarray([m[0] * 1.0, m[1] * 2.0, 0, m[2] * 4.0]) / (m.sum() + 1e-6)
        for m in (first, second)
    ]
    tokens = learner.apply({"params": params}, x)
    np.testing.assert_allclose(tokens[0], expected, rtol=1e-6)
    maps = learner.apply({"params": params}, x, method="attention")
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)


def test_plain_film():
    """gamma x + beta, both linear in the embedding, and not the identity at first."""
    film = FiLM(residual=False)
    x = jnp.asarray([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
    embedding = jnp.asarray([[1.0, -1.0]])
    gamma = {"kernel": jnp.asarray([[2.0, 0, 1], [0, 1, 0]]), "bias": jnp.asarray([0.0, 0, 1])}
    beta = {"kernel": jnp.zeros((2, 3)), "bias": jnp.asarray([0.0, 10, 0])}
    result = film.apply({"params": {"multiply": gamma, "add": beta}}, x, embedding)
    np.testing.assert_allclose(result[0, 0, 0], [2.0 * 1, -1.0 * 2 + 10, 2.0 * 3])
    fresh = film.init(jax.random.key(0), x, embedding)
    assert np.abs(fresh["params"]["multiply"]["kernel"]).max() > 0


def test_a_post_norm_layer_with_relu():
    """x = norm(x + attention(x)); x = norm(x + W1 relu(W0 x)), without a mask."""
    config = TransformerConfig(
        heads=2, key_dim=2, d_model=4, feed_forward="relu", feed_forward_size=6,
        dropout_rate=0.0, normalization="post",
    )  # fmt: skip
    layer = TransformerLayer(config)
    x = np.random.default_rng(0).standard_normal((1, 3, 4)).astype(np.float32)
    mask = np.ones((3, 3), bool)
    variables = layer.init(jax.random.key(0), x, mask)
    p = jax.tree.map(np.asarray, variables["params"])

    def norm(y):
        return (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)

    a = p["attention"]
    q, k, v = (np.einsum("sd,dhk->shk", x[0], a[n]["kernel"]) for n in ("query", "key", "value"))
    scores = np.einsum("rhk,shk->hrs", q, k) / np.sqrt(2)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    mixed = np.einsum("hrs,shk->rhk", weights, v)
    y = norm(x[0] + np.einsum("rhk,hkd->rd", mixed, a["out"]["kernel"]))
    f = p["feed_forward"]
    hidden = np.maximum(y @ f["up"]["kernel"] + f["up"]["bias"], 0)
    expected = norm(y + hidden @ f["down"]["kernel"] + f["down"]["bias"])
    np.testing.assert_allclose(layer.apply(variables, x, mask)[0], expected, atol=2e-6)

"""One control step at a time: what is computed of a window equals the window's own."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from rt1_jax.models.rt1 import RT1, RT1Config
from rt1_jax.models.stepping import empty_caches, keeps_caches, kept_positions

BATCH, FRAMES = 2, 4
TOKENS = np.random.default_rng(0).normal(size=(BATCH, FRAMES, 2, 16)).astype(np.float32)


def settings(**changes) -> RT1Config:
    base = small.small_model(FRAMES, embedding_size=6)
    past = changes.pop("images_see_past_actions", True)
    transformer = dataclasses.replace(
        base.transformer,
        layers=3,
        images_see_past_actions=past,
        feed_forward=changes.pop("feed_forward", "linear"),
    )
    changes = {"bins": 9, "action_tokens": 5, **changes}
    return dataclasses.replace(base, transformer=transformer, **changes)


CASES = {
    "images see slots": settings(),
    "images see images": settings(images_see_past_actions=False),
    "swiglu": settings(images_see_past_actions=False, feed_forward="swiglu"),
    "continuous": settings(decoding="continuous", outputs=13),
}


@pytest.fixture(scope="module", params=[*CASES])
def case(request):
    """A model, variables with noise on everything, and its outputs of a whole window."""
    model = RT1(CASES[request.param])
    variables = jax.jit(lambda key: model.init(key, TOKENS, method="decode_tokens"))(
        jax.random.key(0)
    )
    rng = np.random.default_rng(3)
    noise = lambda x: x + 0.3 * rng.standard_normal(x.shape).astype(np.float32)
    variables = jax.tree.map(noise, variables)
    window = jax.jit(lambda v: model.apply(v, TOKENS, method="decode_tokens"))(variables)
    newest = jax.jit(lambda v, t, s: model.apply(v, t, s, method="decode_newest"))
    following = jax.jit(lambda v, t, s, c: model.apply(v, t, s, c, method="decode_next"))
    return model, variables, np.asarray(window), newest, following


@pytest.mark.parametrize("steps", [(0, 0), (2, 1), (3, 3)])
def test_the_newest_step_is_that_of_the_window(case, steps):
    _, variables, window, newest, _ = case
    outputs, _ = newest(variables, TOKENS, np.asarray(steps))
    np.testing.assert_allclose(outputs, window[np.arange(BATCH), list(steps)], rtol=1e-5, atol=1e-4)


def test_what_comes_after_the_step_is_not_looked_at(case):
    _, variables, _, newest, _ = case
    step = np.asarray([1, 2])
    later = TOKENS.copy()
    later[0, 2:], later[1, 3:] = 7, 7
    outputs, _ = newest(variables, TOKENS, step)
    np.testing.assert_allclose(newest(variables, later, step)[0], outputs, atol=1e-6)
    earlier = TOKENS.copy()
    earlier[:, 0] += 1
    assert np.abs(newest(variables, earlier, step)[0] - outputs).max() > 1e-3


def test_kept_keys_and_values_give_the_same_step_by_step(case):
    model, variables, window, _, following = case
    caches = empty_caches(model.config, BATCH)
    for step in range(FRAMES):
        outputs, caches = following(variables, TOKENS[:, step], np.full(BATCH, step), caches)
        np.testing.assert_allclose(outputs, window[:, step], rtol=1e-5, atol=1e-4)


def test_keys_and_values_of_a_window_are_gone_on_with(case):
    """... by robots that are at different steps of their episodes."""
    _, variables, window, newest, following = case
    step = np.asarray([0, 2])
    _, caches = newest(variables, TOKENS, step)
    outputs, _ = following(variables, TOKENS[np.arange(BATCH), step + 1], step + 1, caches)
    np.testing.assert_allclose(outputs, window[np.arange(BATCH), step + 1], rtol=1e-5, atol=1e-4)


def test_slots_that_nobody_looks_at_are_not_kept():
    seen, unseen = (CASES[name] for name in ("images see slots", "images see images"))
    assert len(kept_positions(seen, seen.sequence_length)) == FRAMES * 7
    kept = kept_positions(unseen, unseen.sequence_length)
    np.testing.assert_array_equal(kept, [0, 1, 7, 8, 14, 15, 21, 22])
    assert empty_caches(unseen, 3)[0].key.shape == (3, 8, 2, 8)
    assert len(empty_caches(unseen, 3)) == 3


def test_the_mean_of_the_tokens_has_no_caches():
    config = settings(readout="mean")
    assert not keeps_caches(config)
    assert not keeps_caches(settings(decoding="autoregressive"))
    assert keeps_caches(settings())
    model = RT1(config)
    init = jax.jit(lambda key: model.init(key, TOKENS, method="decode_tokens"))
    variables = init(jax.random.key(0))
    window = model.apply(variables, TOKENS, method="decode_tokens")
    newest, caches = model.apply(variables, TOKENS, jnp.array([3, 1]), method="decode_newest")
    np.testing.assert_allclose(newest, np.asarray(window)[[0, 1], [3, 1]], atol=1e-6)
    assert caches == []

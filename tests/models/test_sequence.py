"""Ways of decoding actions: autoregressive, continuous, from the mean of the tokens."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from rt1_jax.models.config import ConfigError, RT1Config
from rt1_jax.models.rt1 import RT1

BATCH, FRAMES = 2, 3
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (BATCH, FRAMES, 16, 16, 3)).astype(np.uint8)
EMBEDDINGS = RNG.standard_normal((BATCH, 6)).astype(np.float32)


class PastActionsConfig(RT1Config):
    """As Gato's: the actions of earlier steps are part of the sequence."""

    @property
    def past_actions(self) -> bool:
        return True


def config(**changes):
    base = small.small_model(FRAMES, embedding_size=6)
    return dataclasses.replace(base, bins=9, action_tokens=5, **changes)


def actions(settings, seed=1):
    rng = np.random.default_rng(seed)
    shape = (BATCH, FRAMES, settings.action_tokens)
    return rng.integers(0, settings.bins, shape).astype(np.int32)


def make(settings):
    """The model, and variables with noise on everything."""
    model = RT1(settings)
    given = {"action_tokens": actions(settings)} if settings.decoding == "autoregressive" else {}
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES, EMBEDDINGS, **given)
    rng = np.random.default_rng(3)
    noise = lambda x: x + 0.3 * rng.standard_normal(x.shape).astype(np.float32)
    return model, {**variables, "params": jax.tree.map(noise, variables["params"])}


@pytest.fixture(scope="module", params=[False, True], ids=["own step", "past steps too"])
def autoregressive(request):
    settings = config(decoding="autoregressive")
    if request.param:
        settings = PastActionsConfig(**vars(settings))
    model, variables = make(settings)
    tokens = jax.jit(lambda v, i, e: model.apply(v, i, e, method="encode_frames"))(
        variables, IMAGES.reshape(-1, 16, 16, 3), EMBEDDINGS
    )
    return model, variables, tokens.reshape(BATCH, FRAMES, *tokens.shape[1:])


def test_logits_depend_on_earlier_tokens_and_on_no_later_one(autoregressive):
    """The gradient of logit (t, k) by the embedding of every action token."""
    model, variables, tokens = autoregressive
    settings = model.config
    taken = np.arange(FRAMES * settings.action_tokens).reshape(1, FRAMES, -1) % settings.bins
    # One row of the table for each token, so that each token has a gradient of its own.
    table = jax.random.normal(jax.random.key(5), (taken.size, settings.frame_shape[1]))
    wide = type(settings)(**{**vars(settings), "bins": taken.size})
    params = {**variables["params"], "action_embedding": {"embedding": table}}
    head = params["transformer"]["output_tokens"]
    params["transformer"] = {
        **params["transformer"],
        "output_tokens": {
            "kernel": jnp.tile(head["kernel"], (1, 2))[:, : taken.size],
            "bias": jnp.zeros(taken.size),
        },
    }
    order = np.arange(taken.size).reshape(taken.shape)

    def logits(table):
        changed = {**params, "action_embedding": {"embedding": table}}
        return RT1(wide).apply(
            {**variables, "params": changed},
            tokens[:1],
            method="decode_tokens",
            action_tokens=order,
        )[0]

    gradient = jax.jit(jax.jacrev(lambda t: logits(t).sum(-1).reshape(-1)))(table)
    seen = np.asarray(jnp.abs(gradient).sum(-1) > 0)  # [logit, token]
    place = np.arange(taken.size)
    step = place // settings.action_tokens
    before = place[None] < place[:, None]
    same = step[:, None] == step[None]
    expected = before if settings.past_actions else before & same
    np.testing.assert_array_equal(seen, expected)


def test_cached_decoding_equals_uncached(autoregressive):
    model, variables, tokens = autoregressive
    past = actions(model.config)
    for step in (np.asarray([0, 0]), np.asarray([2, 1])):
        chosen, logits = jax.jit(
            lambda t, s, a: model.apply(variables, t, s, a, method="decode_actions")
        )(tokens, step, past)
        taken = past.copy()
        taken[np.arange(BATCH), step] = chosen
        whole = model.apply(variables, tokens, method="decode_tokens", action_tokens=taken)
        np.testing.assert_allclose(logits, whole[np.arange(BATCH), step], atol=3e-5)
        np.testing.assert_array_equal(chosen, np.asarray(logits).argmax(-1))


def test_later_frames_do_not_matter(autoregressive):
    model, variables, tokens = autoregressive
    decode = jax.jit(lambda t, s, a: model.apply(variables, t, s, a, method="decode_actions"))
    step, past = np.asarray([1, 1]), actions(model.config)
    _, logits = decode(tokens, step, past)
    _, other = decode(tokens.at[:, 2].set(7.0), step, past)
    np.testing.assert_array_equal(logits, other)


def test_action_tokens_are_asked_for():
    settings = config(decoding="autoregressive")
    model, variables = make(settings)
    with pytest.raises(ValueError, match=r"needs action_tokens int \[2, 3, 5\], got none"):
        model.apply(variables, IMAGES, EMBEDDINGS)


def test_continuous_numbers_and_their_history():
    model, variables = make(config(decoding="continuous", outputs=13))
    apply = jax.jit(model.apply)
    outputs = apply(variables, IMAGES, EMBEDDINGS)
    assert outputs.shape == (BATCH, FRAMES, 13)
    changed = IMAGES.copy()
    changed[:, 2] = 255 - changed[:, 2]
    other = apply(variables, changed, EMBEDDINGS)
    np.testing.assert_allclose(outputs[:, :2], other[:, :2], atol=1e-6)
    assert np.abs(outputs[:, 2] - other[:, 2]).max() > 1e-3


@pytest.mark.parametrize("layers", [0, 2])
def test_mean_readout_has_a_head_for_each_token(layers):
    settings = config(readout="mean")
    settings = dataclasses.replace(
        settings, transformer=dataclasses.replace(settings.transformer, layers=layers)
    )
    model, variables = make(settings)
    assert settings.sequence_length == FRAMES * settings.image_tokenizer.tokens
    assert variables["params"]["heads"]["kernel"].shape == (16, 5, 9)
    assert "output_tokens" not in variables["params"]["transformer"]
    logits = model.apply(variables, IMAGES, EMBEDDINGS)
    assert logits.shape == (BATCH, FRAMES, 5, 9)
    changed = IMAGES.copy()
    changed[:, 0] = 255 - changed[:, 0]
    moved = np.abs(model.apply(variables, changed, EMBEDDINGS) - logits).max((0, 2, 3))
    # Without layers there is nothing that carries one frame's tokens to the next.
    np.testing.assert_array_equal(moved > 1e-6, [True, layers > 0, layers > 0])


@pytest.mark.parametrize(
    ("language", "films"), [("film", 3), ("film_end", 1), ("token", 0), ("none", 0)]
)
def test_ways_of_the_instruction(language, films):
    base = config()
    tokenizer = dataclasses.replace(base.image_tokenizer, language=language)
    model, variables = make(dataclasses.replace(base, image_tokenizer=tokenizer))
    names = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
    ]
    assert sum("film" in name for name in names) == films * 4
    assert tokenizer.tokens == 2 + (language == "token")
    logits = model.apply(variables, IMAGES, EMBEDDINGS)
    other = model.apply(variables, IMAGES, EMBEDDINGS + 1)
    assert (np.abs(logits - other).max() > 1e-4) == (language != "none")


def test_impossible_configs():
    with pytest.raises(ConfigError, match="outputs is 0 with 'continuous'"):
        config(decoding="continuous")
    with pytest.raises(ConfigError, match='needs the readout "slots"'):
        config(decoding="autoregressive", readout="mean")
    with pytest.raises(ConfigError, match="decoding must be one of"):
        config(decoding="beam")
    without = dataclasses.replace(config().transformer, layers=0)
    with pytest.raises(ConfigError, match='readout has to be "mean"'):
        config(transformer=without)


def test_a_config_from_before_these_fields_reads_as_it_was():
    settings = config()
    values = settings.to_json()
    for name in ("decoding", "readout", "outputs"):
        del values[name]
    del values["image_tokenizer"]["language"]
    del values["transformer"]["normalization"]
    assert RT1Config.from_json(values) == settings
    del values["frames"]
    with pytest.raises(ConfigError, match="key 'frames' is missing"):
        RT1Config.from_json(values)

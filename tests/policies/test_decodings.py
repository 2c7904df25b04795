"""Stepping policies that decode otherwise than RT-1: one action at a time equals the window."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.checkpoints import native
from rt1_jax.models.bc_z import BCZConfig
from rt1_jax.models.gato import GatoConfig
from rt1_jax.models.patch_tokenizer import PatchTokenizerConfig
from rt1_jax.models.registry import build
from rt1_jax.models.resnet import ResNetConfig
from rt1_jax.policies.load import load_policy
from rt1_jax.policies.streaming import Policy
from rt1_jax.training.step import given_actions

FRAMES = 3


def configs():
    rt1 = small.small_model(FRAMES, embedding_size=6)
    gato = GatoConfig(
        patches=PatchTokenizerConfig((16, 16), 8, token_size=16, channels=8, groups=2),
        transformer=dataclasses.replace(rt1.transformer, feed_forward="gelu", feed_forward_size=24),
        frames=FRAMES,
        embedding_size=6,
    )
    bc_z = BCZConfig(
        resnet=ResNetConfig((1,), filters=8, max_pool=False, film=True),
        image_size=(16, 16),
        head_hidden=8,
        embedding_size=6,
    )
    return {
        "autoregressive": ("rt1", dataclasses.replace(rt1, decoding="autoregressive")),
        "continuous": ("rt1", dataclasses.replace(rt1, decoding="continuous", outputs=13)),
        "mean": ("rt1", dataclasses.replace(rt1, readout="mean")),
        "gato": ("gato", gato),
        "bc_z": ("bc_z", bc_z),
    }


@pytest.fixture(scope="module", params=[*configs()])
def policy(request):
    architecture, config = configs()[request.param]
    model = build(architecture, config.to_json())
    assert model.config == config
    images = np.zeros((1, config.frames, 16, 16, 3), np.uint8)
    actions = {f.name: np.zeros((1, config.frames, f.size), np.float32) for f in TABLETOP.fields}
    given = given_actions(model, actions, TABLETOP)
    variables = jax.jit(model.init)(
        jax.random.key(0), images, np.zeros((1, 6), np.float32), **given
    )
    rng = np.random.default_rng(0)
    noise = lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32)
    variables = {**variables, "params": jax.tree.map(noise, variables["params"])}
    description = small.policy_description(architecture, config)
    return Policy(model, variables, description)


@pytest.fixture(scope="module")
def episode():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (2, 5, 16, 16, 3), np.uint8)
    return images, rng.normal(size=(2, 512)).astype(np.float32)


def test_a_step_equals_the_whole_window(policy, episode):
    images, embeddings = episode
    frames = policy.config.frames
    state = policy.initial_state(2)
    for t in range(frames):  # while the window fills, its first action is the episode's
        state, action, outputs = policy.step_with_logits(state, images[:, t], embeddings)
        window = policy.logits(images[:, max(0, t + 1 - frames) : t + 1], embeddings)
        np.testing.assert_allclose(outputs, window[:, -1], atol=3e-5)
        TABLETOP.validate({name: np.asarray(value) for name, value in action.items()})
    before = state
    state, action = policy.step(state, images[:, frames], embeddings)
    np.testing.assert_array_equal(state.actions[:, :-1], before.actions[:, 1:])


def test_a_reset_forgets(policy, episode):
    images, embeddings = episode
    state = policy.initial_state(2)
    _, _, fresh = policy.step_with_logits(state, images[:, 3], embeddings)
    for t in range(3):
        state, _ = policy.step(state, images[:, t], embeddings)
    state = policy.reset(state, np.asarray([False, True]))
    _, _, outputs = policy.step_with_logits(state, images[:, 3], embeddings)
    np.testing.assert_allclose(outputs[1], fresh[1], atol=1e-5)
    if policy.config.frames > 1:
        assert np.abs(outputs[0] - fresh[0]).max() > 1e-4


def test_it_is_saved_and_loaded_like_any_other(policy, episode, tmp_path):
    images, embeddings = episode
    native.save_checkpoint(tmp_path / "p", policy.description, policy.variables)
    loaded = load_policy(tmp_path / "p")
    state = policy.initial_state(2)
    results = [p.step_with_logits(state, images[:, 0], embeddings)[2] for p in (policy, loaded)]
    np.testing.assert_array_equal(*results)

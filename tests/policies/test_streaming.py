import dataclasses

import jax
import numpy as np
import pytest
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.language import EncoderMismatchError, load_encoder
from rt1_jax.models.rt1 import RT1
from rt1_jax.policies.load import build_model, load_policy
from rt1_jax.policies.streaming import Policy, PolicyInputError

FRAMES = 3


@pytest.fixture(scope="module")
def policy():
    config = small.small_model(FRAMES, embedding_size=6)
    model = RT1(config)
    rng = np.random.default_rng(0)
    images, embeddings = np.zeros((1, FRAMES, 16, 16, 3), np.uint8), np.zeros((1, 6), np.float32)
    variables = model.init(jax.random.key(0), images, embeddings)
    # FiLM starts at zero: without this the instruction would have no effect.
    leaves, structure = jax.tree.flatten(variables["params"])
    params = [x + rng.normal(size=x.shape).astype(np.float32) * 0.2 for x in leaves]
    variables = {**variables, "params": jax.tree.unflatten(structure, params)}
    description = small.policy_description("rt1", config)
    return Policy(model, variables, description)


def episode(batch, steps, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (batch, steps, 16, 16, 3), np.uint8)
    return images, rng.normal(size=(batch, 512)).astype(np.float32)


def test_a_step_equals_the_whole_window(policy):
    images, embeddings = episode(2, 5)
    state = policy.initial_state(2)
    for t in range(5):
        state, action, logits = policy.step_with_logits(state, images[:, t], embeddings)
        start = max(0, t + 1 - FRAMES)
        window = policy.logits(images[:, start : t + 1], embeddings)
        np.testing.assert_allclose(logits, window[:, -1], atol=2e-5)
        want = TABLETOP.detokenize(np.asarray(logits).argmax(-1))
        for name, value in want.items():
            np.testing.assert_allclose(action[name], value, atol=1e-6)
            assert action[name].shape == value.shape
    np.testing.assert_array_equal(state.count, 5)


def test_robots_at_different_steps_do_not_see_each_other(policy):
    images, embeddings = episode(2, 6)
    state = policy.initial_state(2)
    for t in range(4):
        state, _ = policy.step(state, images[:, t], embeddings)
    state = policy.reset(state, np.array([False, True]))
    for t in range(4, 6):
        state, _, logits = policy.step_with_logits(state, images[:, t], embeddings)
    old = policy.logits(images[:1, 3:6], embeddings[:1])[0, -1]
    fresh = policy.logits(images[1:, 4:6], embeddings[1:])[0, -1]
    np.testing.assert_allclose(logits[0], old, atol=2e-5)
    np.testing.assert_allclose(logits[1], fresh, atol=2e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_kept_keys_and_values_change_nothing(policy, batch):
    images, embeddings = episode(batch, 6)
    plain, kept = policy.initial_state(batch, keep=False), policy.initial_state(batch, keep=True)
    for t in range(6):
        plain, _, want = policy.step_with_logits(plain, images[:, t], embeddings)
        kept, _, logits = policy.step_with_logits(kept, images[:, t], embeddings)
        np.testing.assert_allclose(logits, want, atol=2e-5)
        np.testing.assert_allclose(kept.tokens, plain.tokens, atol=2e-5)
        np.testing.assert_array_equal(kept.actions, plain.actions)
        assert (kept.caches is not None) == (t < FRAMES)
    kept = policy.reset(kept, np.ones(batch, bool))
    _, _, logits = policy.step_with_logits(kept, images[:, 0], embeddings)
    np.testing.assert_allclose(logits, policy.logits(images[:, :1], embeddings)[:, 0], atol=2e-5)


def test_keys_and_values_of_robots_at_different_steps(policy):
    """One goes on while the other starts anew; then one window is full and the other is not."""
    images, embeddings = episode(2, 8)
    plain, kept = policy.initial_state(2, keep=False), policy.initial_state(2, keep=True)
    had = []
    for t in range(8):
        if t == 2:
            plain, kept = (policy.reset(s, np.array([False, True])) for s in (plain, kept))
        plain, _, want = policy.step_with_logits(plain, images[:, t], embeddings)
        kept, _, logits = policy.step_with_logits(kept, images[:, t], embeddings)
        np.testing.assert_allclose(logits, want, atol=2e-5)
        had.append(kept.caches is not None)
    # Robot 0 is full from t = 3 on, robot 1 from t = 5 on; caches are made until both are.
    assert had == [True] * 4 + [False] * 4


def test_a_state_can_be_used_twice(policy):
    """Though the step takes its keys and values over."""
    images, embeddings = episode(1, 3)
    state = policy.initial_state(1, keep=True)
    state, _ = policy.step(state, images[:, 0], embeddings)
    first = policy.step_with_logits(state, images[:, 1], embeddings)[2]
    assert all(x.is_deleted() for x in jax.tree.leaves(state.caches))
    again, _, second = policy.step_with_logits(state, images[:, 1], embeddings)
    np.testing.assert_allclose(second, first, atol=2e-5)
    last = policy.step_with_logits(again, images[:, 2], embeddings)[2]
    np.testing.assert_allclose(last, policy.logits(images, embeddings)[:, -1], atol=2e-5)


def test_states_keep_where_it_pays(policy):
    assert not policy.initial_state().keep
    long = small.small_model(frames=40, embedding_size=6)  # 520 places
    model = RT1(long)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), np.zeros((1, 40, 16, 16, 3), np.uint8), np.zeros((1, 6))
    )
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    other = Policy(model, zeros, policy.description)
    assert other.initial_state().keep
    assert not other.initial_state(2).keep
    assert other.initial_state(2, keep=True).keep


def test_an_instruction_is_worked_out_once(policy, monkeypatch):
    worked = []
    plain = policy._prepared._instruction
    monkeypatch.setattr(
        policy._prepared, "_instruction", lambda rows: worked.append(len(rows)) or plain(rows)
    )
    images, embeddings = episode(2, 1, seed=11)
    told = np.concatenate([embeddings, embeddings[:1]])  # two robots have one instruction
    shown = np.concatenate([images[:, 0], images[:1, 0]])
    state = policy.initial_state(3)
    policy.step(state, shown, told)
    worked = [n for n in worked if n > 1]  # tracing asks for the layout by one row
    assert worked == [2]
    policy.step(state, shown, told)
    assert worked == [2]


def test_rounded_operands_give_nearly_the_same(policy):
    rounded = Policy(policy.model, policy.variables, policy.description, "bfloat16")
    images, embeddings = episode(2, 3)
    want, found = (np.asarray(p.logits(images, embeddings)) for p in (policy, rounded))
    assert 1e-4 < np.abs(found - want).max() < 0.1 * np.abs(want).max()
    with pytest.raises(ValueError, match="compute is 'float16'"):
        Policy(policy.model, policy.variables, policy.description, "float16")


def test_warming_up_compiles_the_steps(policy):
    fresh = Policy(policy.model, policy.variables, policy.description)
    fresh.warm_up(2)
    fresh.warm_up(1, (20, 30), keep=True)
    sizes = fresh._full._cache_size(), fresh._next._cache_size()
    images, embeddings = episode(2, 5)
    state = fresh.initial_state(2)
    for t in range(5):
        state, _ = fresh.step(state, images[:, t], embeddings)
    state = fresh.initial_state(1, keep=True)
    for _ in range(5):
        state, _ = fresh.step(state, np.zeros((1, 20, 30, 3), np.uint8), embeddings[:1])
    assert (fresh._full._cache_size(), fresh._next._cache_size()) == sizes


def test_a_policy_that_cannot_keep_says_so(policy):
    config = dataclasses.replace(policy.config, readout="mean")
    model = RT1(config)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), np.zeros((1, 3, 16, 16, 3), np.uint8), np.zeros((1, 6))
    )
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    with pytest.raises(PolicyInputError, match="keeps no keys and values"):
        Policy(model, zeros, policy.description).initial_state(1, keep=True)


def test_the_instruction_and_the_past_matter(policy):
    images, embeddings = episode(1, 2)
    base = policy.logits(images, embeddings)
    assert np.abs(policy.logits(images, -embeddings) - base).max() > 1e-3
    other = images.copy()
    other[:, 0] = 255 - other[:, 0]
    assert np.abs(policy.logits(other, embeddings)[:, 1] - base[:, 1]).max() > 1e-4
    # ... and the future does not.
    other = images.copy()
    other[:, 1] = 255 - other[:, 1]
    np.testing.assert_allclose(policy.logits(other, embeddings)[:, 0], base[:, 0], atol=1e-6)


def test_one_embedding_a_window_or_one_a_step(policy):
    images, embeddings = episode(2, 3)
    each = np.repeat(embeddings[:, None], 3, axis=1)
    np.testing.assert_allclose(
        policy.logits(images, each), policy.logits(images, embeddings), atol=2e-5
    )


@pytest.mark.parametrize(
    ("images", "embeddings", "message"),
    [
        (np.zeros((1, 16, 16, 3), np.float32), np.zeros((1, 512)), "uint8"),
        (np.zeros((1, 16, 16), np.uint8), np.zeros((1, 512)), "uint8"),
        (np.zeros((2, 16, 16, 3), np.uint8), np.zeros((2, 512)), "batch size 1"),
        (np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 100)), "100 dimensions, expected 512"),
        (np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 512), np.nan), "not finite"),
    ],
)
def test_bad_input_is_named(policy, images, embeddings, message):
    with pytest.raises(PolicyInputError, match=message):
        policy.step(policy.initial_state(1), images, embeddings)


def test_an_encoder_that_is_not_the_recorded_one_is_refused(policy):
    description = policy.description
    identity = load_encoder().identity
    recorded = type(identity)(identity.name, 512, description.encoder.check_embedding)
    changed = Policy(policy.model, policy.variables, description)
    changed.description = type(description)(**{**vars(description), "encoder": recorded})
    with pytest.raises(EncoderMismatchError, match="cosine"):
        changed.embed(["pick up the red block"])


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing-here"):
        load_policy(tmp_path / "nothing-here")


def test_an_unusable_model_config_is_named(policy):
    description = policy.description
    broken = {**description.model, "framse": 3}
    with pytest.raises(CheckpointError, match="framse"):
        build_model(type(description)(**{**vars(description), "model": broken}))

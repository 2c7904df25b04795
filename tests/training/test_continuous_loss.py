"""BC-Z's losses: Huber for motions, log loss for the gripper, cross-entropy for the mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.action_values import is_odds, normalize
from rt1_jax.actions import TABLETOP
from rt1_jax.training.continuous_loss import HUBER_DELTA, continuous_action_loss


def recorded(batch=2, time=3):
    rng = np.random.default_rng(0)
    actions = {
        field.name: rng.uniform(field.low, field.high, (batch, time, field.size))
        for field in TABLETOP.fields
    }
    actions["terminate_episode"] = np.eye(3)[rng.integers(0, 3, (batch, time))]
    actions = {name: jnp.asarray(value, jnp.float32) for name, value in actions.items()}
    return actions, jnp.ones((batch, time))


def exact(actions):
    """Outputs that mean the recorded actions."""
    parts = []
    for field in TABLETOP.fields:
        value = normalize(actions, field)
        if field.kind == "one_hot":
            value = 30 * actions[field.name]
        elif is_odds(field):
            value = 2 * jnp.arctanh(jnp.clip(value, -0.999999, 0.999999))
        parts.append(value)
    return jnp.concatenate(parts, -1)


def test_the_recorded_action_is_the_minimum():
    actions, mask = recorded()
    loss = lambda outputs: continuous_action_loss(outputs, actions, mask, TABLETOP)[0]
    best = exact(actions)
    gradient = jax.grad(loss)(best)
    np.testing.assert_allclose(gradient, 0, atol=2e-6)
    _, metrics = continuous_action_loss(best, actions, mask, TABLETOP)
    assert metrics["token_accuracy"] == pytest.approx(1, abs=0.06)  # on a bin's edge it may tip
    assert metrics["error/world_vector/x"] < 0.05 * 2 / 255


def test_each_part_by_its_formula():
    actions, mask = recorded(1, 1)
    best = exact(actions)
    # Of 11 parts: two numbers of a motion, one beyond delta.
    for move, expected in ((0.05, 0.05**2 / 2), (0.5, HUBER_DELTA * (0.5 - HUBER_DELTA / 2))):
        moved = best.at[..., 4].add(move)
        gain = [continuous_action_loss(o, actions, mask, TABLETOP)[0] for o in (best, moved)]
        np.testing.assert_allclose(gain[1] - gain[0], expected / HUBER_DELTA / 11, rtol=2e-3)
    gripper = {**actions, "gripper_closedness_action": jnp.ones((1, 1, 1))}
    values = [
        continuous_action_loss(best.at[..., 9].set(z), gripper, mask, TABLETOP)[0]
        for z in (0.0, 3.0)
    ]
    expected = (np.log(2) - np.log1p(np.exp(-3))) / 11
    np.testing.assert_allclose(values[0] - values[1], expected, rtol=1e-4)


def test_padded_steps_do_not_count():
    actions, mask = recorded()
    outputs = jnp.zeros((2, 3, 13))
    masked = mask.at[:, 2].set(0)
    full = continuous_action_loss(outputs, actions, masked, TABLETOP)[0]
    changed = continuous_action_loss(outputs.at[:, 2].set(9.0), actions, masked, TABLETOP)[0]
    assert full == changed


def test_field_weights_and_label_smoothing_by_their_definitions():
    actions, mask = recorded(1, 1)
    outputs = jax.random.normal(jax.random.key(0), (1, 1, 13))
    of = lambda **given: continuous_action_loss(outputs, actions, mask, TABLETOP, **given)[0]
    only = (("terminate_episode", 1.0), *((n, 0.0) for n in TABLETOP.field_names[1:]))
    log_probs = np.asarray(jax.nn.log_softmax(outputs[..., :3]))[0, 0]
    target = np.asarray(actions["terminate_episode"])[0, 0]
    np.testing.assert_allclose(of(field_weights=only), -(target * log_probs).sum(), rtol=1e-5)
    smooth = 0.7 * target + 0.1
    want = -(smooth * log_probs).sum()
    np.testing.assert_allclose(of(field_weights=only, label_smoothing=0.3), want, rtol=1e-5)
    change = (want - of(field_weights=only)) / 11  # the motions know no smoothing
    np.testing.assert_allclose(of(label_smoothing=0.3) - of(), change, rtol=1e-3, atol=1e-6)
    assert of() == of(label_smoothing=0.0, field_weights=())

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.training.loss import action_loss, token_cross_entropy


def batch(seeds=(0, 1), frames=3):
    actions = [small.make_episode(seed, frames).actions for seed in seeds]
    return {name: jnp.stack([a[name] for a in actions]) for name in actions[0]}


def certain_logits(actions, height=50.0):
    return height * jax.nn.one_hot(TABLETOP.tokenize(actions), 256)


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([0.5, 0.25, 0.125, 0.125]))[None, None, None]
    for token, want in enumerate((2, 4, 8, 8)):
        found = token_cross_entropy(logits, jnp.full((1, 1, 1), token))
        np.testing.assert_allclose(found, np.log(want), rtol=1e-6)


def test_a_perfect_prediction_costs_nothing():
    actions = batch()
    loss, metrics = action_loss(certain_logits(actions), actions, jnp.ones((2, 3)), TABLETOP)
    assert loss < 1e-4
    assert metrics["token_accuracy"] == 1
    # What detokenising cannot undo is less than a bin.
    assert 0 < metrics["error/world_vector/x"] <= 0.1 / 255
    assert metrics["error/terminate_episode"] == 0


def test_a_uniform_prediction_costs_log_bins():
    loss, _ = action_loss(jnp.zeros((2, 3, 11, 256)), batch(), jnp.ones((2, 3)), TABLETOP)
    np.testing.assert_allclose(loss, np.log(256), rtol=1e-6)


def test_errors_are_in_physical_units():
    actions = batch()
    moved = {**actions, "world_vector": -actions["world_vector"]}
    _, metrics = action_loss(certain_logits(moved), actions, jnp.ones((2, 3)), TABLETOP)
    want = 2 * jnp.abs(actions["world_vector"][..., 1]).mean()
    np.testing.assert_allclose(metrics["error/world_vector/y"], want, atol=0.1 / 255)


def test_padded_steps_do_not_count():
    actions = batch()
    logits = jax.random.normal(jax.random.key(0), (2, 3, 11, 256))
    mask = jnp.array([[1.0, 1, 0], [1, 1, 0]])
    loss, metrics = action_loss(logits, actions, mask, TABLETOP)
    short = {name: value[:, :2] for name, value in actions.items()}
    want, want_metrics = action_loss(logits[:, :2], short, jnp.ones((2, 2)), TABLETOP)
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    for name, value in want_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-6)


def test_smoothed_targets_have_a_bell_around_the_token():
    logits = jax.random.normal(jax.random.key(0), (1, 1, 1, 256))
    token = jnp.full((1, 1, 1), 100)
    bell = np.exp(-0.5 * ((np.arange(256) - 100) / 2.0) ** 2)
    want = -(bell / bell.sum() * jax.nn.log_softmax(logits)[0, 0, 0]).sum()
    np.testing.assert_allclose(token_cross_entropy(logits, token, 2.0)[0, 0, 0], want, rtol=1e-5)


def test_smoothing_leaves_the_terminate_token_and_the_metrics_alone():
    actions = batch()
    logits = jax.random.normal(jax.random.key(0), (2, 3, 11, 256))
    plain, metrics = action_loss(logits, actions, jnp.ones((2, 3)), TABLETOP)
    smooth, same = action_loss(logits, actions, jnp.ones((2, 3)), TABLETOP, smoothing=3.0)
    assert smooth != plain
    assert metrics["loss"] == same["loss"] == pytest.approx(plain)

    def of_terminate(smoothing):
        def loss(x):
            return action_loss(
                logits.at[:, :, 0].set(x), actions, jnp.ones((2, 3)), TABLETOP, smoothing
            )[0]

        return jax.grad(loss)(logits[:, :, 0])

    np.testing.assert_allclose(of_terminate(3.0), of_terminate(0.0), atol=1e-7)


def test_label_smoothing_by_its_definition():
    actions = batch()
    logits = jax.random.normal(jax.random.key(0), (2, 3, 11, 256))
    found, metrics = action_loss(logits, actions, jnp.ones((2, 3)), TABLETOP, label_smoothing=0.1)
    target = 0.9 * np.asarray(jax.nn.one_hot(TABLETOP.tokenize(actions), 256))
    target[:, :, 0, :3] += 0.1 / 3  # the mode has three values
    target[:, :, 1:] += 0.1 / 256
    np.testing.assert_allclose(target.sum(-1), 1, rtol=1e-5)
    want = -(target * np.asarray(jax.nn.log_softmax(logits))).sum(-1).mean()
    np.testing.assert_allclose(found, want, rtol=1e-5)
    assert metrics["loss"] == action_loss(logits, actions, jnp.ones((2, 3)), TABLETOP)[0]


def test_label_smoothing_takes_its_share_of_the_bell_too():
    actions, mask = batch(), jnp.ones((2, 3))
    logits = jax.random.normal(jax.random.key(0), (2, 3, 11, 256))
    of = lambda **given: action_loss(logits, actions, mask, TABLETOP, 2.0, **given)[0]
    sharp = action_loss(logits, actions, mask, TABLETOP, label_smoothing=0.2)[0]
    even = (sharp - 0.8 * action_loss(logits, actions, mask, TABLETOP)[0]) / 0.2
    np.testing.assert_allclose(of(label_smoothing=0.2), 0.8 * of() + 0.2 * even, rtol=1e-5)


def test_field_weights_move_the_mean_and_not_the_metrics():
    actions, mask = batch(), jnp.ones((2, 3))
    logits = jax.random.normal(jax.random.key(0), (2, 3, 11, 256))
    _, metrics = action_loss(logits, actions, mask, TABLETOP)
    each = np.asarray([metrics[f"cross_entropy/{name}"] for name in TABLETOP.token_names])
    given = (("world_vector", 3.0), ("base_displacement_vector", 0.0))
    found, same = action_loss(logits, actions, mask, TABLETOP, field_weights=given)
    weights = np.asarray([1, 3, 3, 3, 1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(found, (each * weights).sum() / weights.sum(), rtol=1e-5)
    assert all(same[name] == value for name, value in metrics.items())


def test_defaults_change_no_bit():
    actions, mask = batch(), jnp.ones((2, 3))
    logits = jax.random.normal(jax.random.key(0), (2, 3, 11, 256))
    plain = action_loss(logits, actions, mask, TABLETOP, 2.0)[0]
    given = action_loss(
        logits, actions, mask, TABLETOP, 2.0, label_smoothing=0.0, field_weights=()
    )[0]
    assert plain == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"field_weights": (("gripper", 2.0),)},
            "no field 'gripper'; it has terminate_episode, wo",
        ),
        ({"field_weights": (("world_vector", -1.0),)}, "weight of 'world_vector' is -1.0"),
        ({"field_weights": (("world_vector", 1.0),) * 2}, "names 'world_vector' twice"),
        ({"field_weights": [(n, 0.0) for n in TABLETOP.field_names]}, "every field's weight is 0"),
        ({"label_smoothing": 1.0}, "loss.label_smoothing is 1.0"),
    ],
)
def test_what_does_not_fit_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        action_loss(jnp.zeros((2, 3, 11, 256)), batch(), jnp.ones((2, 3)), TABLETOP, **given)

"""The train state: its averaged weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rt1_jax.training.state import TrainState

DECAY = 0.99


def advance(state, grads):
    optimizer = optax.sgd(0.5)
    step = jax.jit(lambda s, g: s.advance(g, s.batch_stats, optimizer, DECAY, ("fixed",)))
    return step(state, grads)


def test_what_does_not_change_is_not_rounded_away():
    """Frozen parameters, statistics and what has no gradient: bit for bit, after many steps."""
    rng = np.random.default_rng(0)
    numbers = lambda: jnp.asarray(rng.normal(size=10_000), jnp.float32)
    params = {"fixed": {"kernel": numbers()}, "trained": {"kernel": numbers(), "idle": numbers()}}
    variables = {"params": params, "batch_stats": {"mean": numbers()}}
    state = TrainState.create(variables, optax.sgd(0.5), ("fixed",))
    grads = {"trained": {"kernel": numbers(), "idle": jnp.zeros(10_000)}}
    for _ in range(20):
        state = advance(state, grads)
    average = state.average
    np.testing.assert_array_equal(average["params"]["fixed"]["kernel"], params["fixed"]["kernel"])
    np.testing.assert_array_equal(average["params"]["trained"]["idle"], params["trained"]["idle"])
    np.testing.assert_array_equal(average["batch_stats"]["mean"], variables["batch_stats"]["mean"])


def test_the_average_follows_by_its_formula():
    value = jnp.asarray([1.0, -2.0], jnp.float32)
    state = TrainState.create({"params": {"w": value}}, optax.sgd(0.5))
    grad = jnp.asarray([2.0, 4.0], jnp.float32)
    average, weights = np.asarray(value), np.asarray(value)
    for step in range(3):
        state = state.advance({"w": grad}, {}, optax.sgd(0.5), DECAY)
        weights = weights - 0.5 * np.asarray(grad)
        rate = min(DECAY, (1 + step) / (10 + step))
        average = average * rate + weights * (1 - rate)
    np.testing.assert_allclose(state.average["params"]["w"], average, rtol=1e-6)

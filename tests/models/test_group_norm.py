"""Group normalisation gives Flax's numbers and gradients."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.models.group_norm import GroupNorm


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_equals_flax(groups):
    rng = np.random.default_rng(0)
    x = (3 + 2 * rng.standard_normal((5, 4, 2, 12))).astype(np.float32)
    variables = {
        "params": {name: rng.standard_normal(12).astype(np.float32) for name in ("scale", "bias")}
    }
    target = rng.standard_normal(x.shape).astype(np.float32)

    def loss(module):
        return lambda v, x: jnp.mean((module.apply(v, x) - target) ** 2)

    ours, flax = (
        jax.jit(jax.value_and_grad(loss(module), (0, 1)))(variables, x)
        for module in (
            GroupNorm(groups),
            nn.GroupNorm(groups, epsilon=1e-5, use_fast_variance=False),
        )
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, flax)


def test_bfloat16_in_and_out():
    x = jnp.full((2, 3, 4), 300, jnp.bfloat16)
    module = GroupNorm(2, dtype=jnp.bfloat16)
    y = module.apply(module.init(jax.random.key(0), x), x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, 0)

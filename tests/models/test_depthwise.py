"""Depthwise convolution: every lowering gives the same numbers and gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.models import depthwise

CASES = [
    (kernel, stride, size, padding)
    for kernel, size in ((3, (9, 12)), (5, (8, 7)))
    for stride in (1, 2)
    for padding in ("keras", "same", "symmetric")
]


@pytest.mark.parametrize(("kernel", "stride", "size", "padding"), CASES)
def test_lowerings_agree_in_values_and_gradients(kernel, stride, size, padding):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *size, 4)).astype(np.float32)
    weights = rng.standard_normal((kernel, kernel, 4)).astype(np.float32)
    pads = depthwise.convolution_pads(size, kernel, stride, padding)

    def compute(lowering):
        def loss(x, weights):
            y = depthwise.depthwise_convolution(
                x, weights, stride=stride, pads=pads, lowering=lowering
            )
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(x, weights)

    (_, grouped), expected = compute("grouped")
    (_, shifted), found = compute("shifted")
    np.testing.assert_allclose(shifted, grouped, atol=1e-5)
    for own, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, reference, atol=1e-4)


def test_padding_rules():
    pads = depthwise.convolution_pads
    assert pads((300, 75), 3, 2, "keras") == ((0, 1), (0, 1))
    assert pads((300, 75), 5, 2, "keras") == ((1, 2), (1, 2))
    assert pads((300, 75), 3, 2, "same") == ((0, 1), (1, 1))
    assert pads((300, 75), 5, 2, "symmetric") == ((2, 2), (2, 2))
    for padding in ("keras", "same", "symmetric"):
        assert pads((9, 9), 5, 1, padding) == ((2, 2), (2, 2))

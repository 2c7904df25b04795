"""Dense layers as plain two-dimensional matrix products.

XLA's CPU backend has a fast path for products of two matrices only. The gradient of a dense layer
on ``[b, s, d]`` contracts two axes at once and misses it, which makes the backward pass 3 times
slower; flattened, it is a matrix product again. Elsewhere the two are the same.
"""

from __future__ import annotations

import math
from typing import Any

import jax
from jax import lax


def flat_dot_general(
    lhs: jax.Array,
    rhs: jax.Array,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    **_: Any,
) -> jax.Array:
    """``lax.dot_general`` for dense layers: ``[..., *k]`` by ``[*k, ...]``, flattened to matrices.

    To be given to Flax's ``Dense`` and ``DenseGeneral`` as ``dot_general``.

    Raises:
      ValueError: other axes are contracted than the last of ``lhs`` with the first of ``rhs``.
    """
    (lhs_axes, rhs_axes), batch_axes = dimension_numbers
    count = len(lhs_axes)
    last, first = tuple(range(lhs.ndim - count, lhs.ndim)), tuple(range(count))
    if tuple(lhs_axes) != last or tuple(rhs_axes) != first or any(batch_axes):
        raise ValueError(f"not a dense layer's product: {dimension_numbers}")
    size = math.prod(rhs.shape[:count])
    product = lax.dot_general(
        lhs.reshape(-1, size),
        rhs.reshape(size, -1),
        (((1,), (0,)), ((), ())),
        precision,
        preferred_element_type,
    )
    return product.reshape(*lhs.shape[: lhs.ndim - count], *rhs.shape[count:])


def matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``[..., c]`` by ``[c, f]`` to ``[..., f]``."""
    return flat_dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))

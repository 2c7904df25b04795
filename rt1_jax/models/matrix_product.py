"""Dense layers as plain two-dimensional matrix products, in float32 or with bfloat16 operands.

XLA's CPU backend has a fast path for products of two matrices only. The gradient of a dense layer
on ``[b, s, d]`` contracts two axes at once and misses it, which makes the backward pass 3 times
slower; flattened, it is a matrix product again. Elsewhere the two are the same.

Traced under ``jax.default_matmul_precision("BF16_BF16_F32")``, products of float32 arrays round
their operands to bfloat16 and add up in float32. XLA does so by itself on accelerators; on CPU it
leaves the setting out, so that it is written out here: processors with matrix units for bfloat16
(AMX) are several times as fast then.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

BFLOAT16_OPERANDS = "BF16_BF16_F32"
"""The setting of ``jax.default_matmul_precision`` that rounds operands."""


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
    lhs_matrix, rhs_matrix, preferred = _operands(
        lhs.reshape(-1, size), rhs.reshape(size, -1), preferred_element_type
    )
    product = lax.dot_general(
        lhs_matrix, rhs_matrix, (((1,), (0,)), ((), ())), precision, preferred
    )
    return product.reshape(*lhs.shape[: lhs.ndim - count], *rhs.shape[count:])


def matrix_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``[..., c]`` by ``[c, f]`` to ``[..., f]``."""
    return flat_dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def einsum(subscripts: str, lhs: jax.Array, rhs: jax.Array) -> jax.Array:
    """``jnp.einsum`` of two arrays, with the operands of a dense layer's product."""
    lhs, rhs, preferred = _operands(lhs, rhs, None)
    return jnp.einsum(subscripts, lhs, rhs, preferred_element_type=preferred)


def _operands(lhs: jax.Array, rhs: jax.Array, preferred: Any) -> tuple[jax.Array, jax.Array, Any]:
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    wanted = precision == BFLOAT16_OPERANDS
    if wanted and lhs.dtype == rhs.dtype == jnp.float32:
        return lhs.astype(jnp.bfloat16), rhs.astype(jnp.bfloat16), jnp.float32
    return lhs, rhs, preferred

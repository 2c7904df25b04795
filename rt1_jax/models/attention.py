"""Attention's arithmetic without its layers: of a long mask, the empty half is not computed."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.models.matrix_product import einsum
from rt1_jax.platforms import platform

MASKED = -1e9
"""What a score becomes where looking is not allowed, as in the original."""

Mask = np.ndarray | jax.Array
"""Bool ``[r, s]`` for all, or ``[b, r, s]``: queries by keys, True where looking is allowed."""

_LONG = 512  # keys from which on a causal mask's empty half is worth leaving out
_ROWS = 256  # queries at a time then: three fifths of the scores of RT-1-X's window are left
_UNROLLED = 16  # matrices; more would be long to compile


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: Mask | Sequence[Mask]
) -> jax.Array:
    """Every query's mean of the values that it looks at, weighted by softmax.

    Args:
      query: ``[b, r, heads, k]``, scaled already.
      key: ``[b, s, heads, k]``.
      value: likewise.
      mask: of the queries; or several, each of the next queries.

    Returns:
      ``[b, r, heads, k]``.
    """
    masks = [mask] if isinstance(mask, (np.ndarray, jax.Array)) else mask
    parts, start = [], 0
    for part in masks:
        rows = query[:, start : start + part.shape[-2]]
        start += part.shape[-2]
        parts += _by_rows(rows, key, value, part)
    return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _by_rows(query: jax.Array, key: jax.Array, value: jax.Array, mask: Mask) -> list[jax.Array]:
    """A few queries at a time, with the keys up to the last one that any of them looks at."""
    if not isinstance(mask, np.ndarray) or mask.shape[1] < _LONG:
        return [_attend(query, key, value, mask)]
    parts = []
    for start in range(0, len(mask), _ROWS):
        rows = mask[start : start + _ROWS]
        stop = int(np.flatnonzero(rows.any(0)).max(initial=0)) + 1
        part = query[:, start : start + _ROWS], key[:, :stop], value[:, :stop]
        parts.append(_attend(*part, rows[:, :stop]))
    return parts


def _attend(query: jax.Array, key: jax.Array, value: jax.Array, mask: Mask) -> jax.Array:
    batch, heads = query.shape[0], query.shape[2]
    allowed = jnp.asarray(mask)  # once: a constant for each head would be long to compile
    if platform() != "cpu" or not isinstance(batch, int) or batch * heads > _UNROLLED:
        each = allowed if mask.ndim == 2 else allowed[:, None]  # [b, 1, r, s]
        weights, total = _weights(einsum("brhk,bshk->bhrs", query, key), each, value.dtype)
        mean = einsum("bhrs,bshk->brhk", weights, value)
        return mean / total.transpose(0, 2, 1, 3).astype(mean.dtype)
    # XLA's products of two matrices are faster on CPU than its products of many.
    rows = []
    for b in range(batch):
        own = allowed if mask.ndim == 2 else allowed[min(b, len(mask) - 1)]
        rows.append(
            jnp.stack(
                [_head(query[b, :, h], key[b, :, h], value[b, :, h], own) for h in range(heads)],
                axis=1,
            )
        )
    return jnp.stack(rows).astype(value.dtype)


@jax.jit  # traced once for all heads and layers
def _head(query: jax.Array, key: jax.Array, value: jax.Array, allowed: jax.Array) -> jax.Array:
    """One head of one robot: ``[r, k]``, ``[s, k]``, ``[s, k]`` and ``[r, s]`` to ``[r, k]``."""
    weights, total = _weights(einsum("rk,sk->rs", query, key), allowed, value.dtype)
    mean = einsum("rs,sk->rk", weights, value)
    return mean / total.astype(mean.dtype)


def _weights(
    scores: jax.Array, allowed: jax.Array, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """Softmax in float32 but for the division, which is left to the shorter product; the sums."""
    scores = jnp.where(allowed, scores.astype(jnp.float32), MASKED)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights.astype(dtype), weights.sum(axis=-1, keepdims=True)

"""Uniform bins of a bounded number, exact in NumPy and inside ``jit``."""

from __future__ import annotations

import functools

import numpy as np

Bounds = tuple[float, ...]


def _columns(low: Bounds, high: Bounds) -> tuple[np.ndarray, np.ndarray]:
    lows, highs = np.asarray([low, high], np.float32)[:, :, None]
    return lows, highs  # [size, 1] each


def bin_of(value: np.ndarray, low: Bounds, high: Bounds, bins: int) -> np.ndarray:
    """The original's tokenizer for values within the bounds: scale, then truncate, in float32."""
    lows, highs = _columns(low, high)
    return ((value - lows) / (highs - lows) * np.float32(bins - 1)).astype(np.int32)


@functools.lru_cache(maxsize=64)
def bin_edges(low: Bounds, high: Bounds, bins: int) -> np.ndarray:
    """For each bin but the first, the smallest float32 value that falls into it.

    Comparing with these is exact everywhere. Computing the bin inside ``jit`` is not: XLA divides
    by a constant through its reciprocal, and values on an edge fall into the bin below.

    Returns:
      float32 ``[size, bins - 1]``, ascending.
    """
    lows, highs = _columns(low, high)
    target = np.arange(1, bins, dtype=np.int32)  # [bins - 1]
    below, reached = (
        np.broadcast_to(_ordinal(bound), (len(low), bins - 1)) for bound in (lows, highs)
    )
    while np.any(reached - below > 1):
        middle = (below + reached) // 2
        inside = bin_of(_from_ordinal(middle), low, high, bins) >= target
        below, reached = np.where(inside, below, middle), np.where(inside, middle, reached)
    return _from_ordinal(reached)


@functools.lru_cache(maxsize=64)
def bin_values(low: Bounds, high: Bounds, bins: int) -> np.ndarray:
    """What each token of each element means: float32 ``[size, bins]``."""
    lows, highs = _columns(low, high)
    return np.arange(bins, dtype=np.float32) / np.float32(bins - 1) * (highs - lows) + lows


def _ordinal(value: np.ndarray) -> np.ndarray:
    """Numbers float32 values in ascending order, so that they can be bisected."""
    bits = value.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _from_ordinal(ordinal: np.ndarray) -> np.ndarray:
    bits = np.where(ordinal < 0, -ordinal | 0x80000000, ordinal)
    return bits.astype(np.uint32).view(np.float32)

"""Quantiles of a stream of numbers, mergeable, to a relative accuracy of 1%."""

from __future__ import annotations

from typing import Any

import numpy as np

_GAMMA = 1.02
_LOG_GAMMA = float(np.log(_GAMMA))
_SMALLEST = 1e-9
"""What is closer to zero than this counts as zero."""


class QuantileSketch:
    """Counts of numbers in buckets that grow by 2% each, on both sides of zero.

    The idea is DDSketch's (Masson et al. 2019): a bucket's middle is within 1% of all that is in
    it, so quantiles have that relative accuracy whatever the range, and sketches add up.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}

    def add(self, values: np.ndarray) -> None:
        """Counts finite numbers [n]."""
        x = np.asarray(values, np.float64)
        size = np.abs(x)
        # Bucket k > 0 is (smallest * gamma^(k-1), smallest * gamma^k]; -k its mirror image; 0 zero.
        logs = np.log(np.maximum(size, _SMALLEST) / _SMALLEST) / _LOG_GAMMA
        keys = np.where(size > _SMALLEST, np.maximum(np.ceil(logs), 1), 0) * np.sign(x)
        for key, count in zip(*np.unique(keys.astype(np.int64), return_counts=True), strict=True):
            self._buckets[int(key)] = self._buckets.get(int(key), 0) + int(count)

    def merge(self, other: QuantileSketch) -> None:
        """Adds another's counts."""
        for key, count in other._buckets.items():
            self._buckets[key] = self._buckets.get(key, 0) + count

    def quantile(self, q: float) -> float:
        """The number below which a share q in 0..1 lies; nan where there are none."""
        if not self._buckets:
            return float("nan")
        keys = sorted(self._buckets)
        counts = np.cumsum([self._buckets[key] for key in keys])
        key = keys[int(np.searchsorted(counts, q * (counts[-1] - 1), side="right"))]
        middle = _SMALLEST * _GAMMA ** abs(key) * 2 / (1 + _GAMMA)
        return float(np.sign(key) * middle)

    def to_json(self) -> dict[str, list[int]]:
        """For :meth:`from_json`."""
        keys = sorted(self._buckets)
        return {"buckets": keys, "counts": [self._buckets[key] for key in keys]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> QuantileSketch:
        """What :meth:`to_json` wrote."""
        sketch = cls()
        sketch._buckets = dict(zip(data["buckets"], data["counts"], strict=True))
        return sketch

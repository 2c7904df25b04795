"""Means of a few independent samples, with intervals. For rates: `evaluation.metrics`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy.stats import t as student


@dataclasses.dataclass(frozen=True)
class MeanInterval:
    """A mean with its 95% interval (Student's t); arrays of one shape.

    Attributes:
      mean: NaN where there is no sample.
      low, high: ends of the interval; NaN with fewer than two samples.
      samples: how many there were.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    samples: int

    def to_json(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "samples": self.samples,
        }

    def text(self, digits: int = 2) -> str:
        """Of a single number: ``0.31 [0.25, 0.37]``."""
        if np.isnan(self.mean):
            return "–"
        if np.isnan(self.low):
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"

    def __getitem__(self, index: Any) -> MeanInterval:
        return MeanInterval(self.mean[index], self.low[index], self.high[index], self.samples)


def mean_interval(samples: Any) -> MeanInterval:
    """Mean and 95% interval over the first axis of samples [n, ...], taken as independent."""
    values = np.asarray(samples, np.float64)
    count = len(values)
    missing = np.full(values.shape[1:], np.nan)
    if count == 0:
        return MeanInterval(missing, missing, missing, 0)
    mean = values.mean(0)
    if count == 1:
        return MeanInterval(mean, missing, missing, 1)
    half = student.ppf(0.975, count - 1) * values.std(0, ddof=1) / np.sqrt(count)
    return MeanInterval(mean, mean - half, mean + half, count)

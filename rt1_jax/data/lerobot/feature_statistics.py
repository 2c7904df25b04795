"""The statistics that LeRobot normalises with: of vectors, and of pictures by their channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from rt1_jax.data.lerobot.layout import QUANTILES

_MOST_FRAMES = 20
"""Frames of an episode that count; neighbouring frames are nearly the same."""


def quantile_name(q: float) -> str:
    """0.01 -> "q01"."""
    return f"q{round(100 * q):02d}"


def vector_statistics(values: np.ndarray) -> dict[str, list[Any]]:
    """Of numbers [n, size]: min, max, mean, std, count, q01, q10, q50, q90, q99; lists of size."""
    x = np.asarray(values, np.float64)
    found: dict[str, list[Any]] = {
        "min": x.min(0).tolist(),
        "max": x.max(0).tolist(),
        "mean": x.mean(0).tolist(),
        "std": x.std(0).tolist(),
        "count": [len(x)],
    }
    rows = np.quantile(x, QUANTILES, axis=0)
    return found | {quantile_name(q): row.tolist() for q, row in zip(QUANTILES, rows, strict=True)}


class PictureHistogram:
    """How often each value of a pixel occurs, by channel: exact, and adds up."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256), np.int64)
        self._frames = 0

    def add(self, image: np.ndarray) -> None:
        """Counts a picture: uint8 [h, w, 3]."""
        for channel in range(3):
            self._counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
        self._frames += 1

    def merge(self, other: PictureHistogram) -> None:
        """Adds another's counts."""
        self._counts += other._counts
        self._frames += other._frames

    def summary(self) -> dict[str, list[Any]]:
        """As `vector_statistics`, of values in 0..1, each nested to the shape [3, 1, 1]."""
        values = np.arange(256) / 255
        total = self._counts.sum(1)  # [3]
        mean = self._counts @ values / total
        square = self._counts @ values**2 / total
        cumulative = np.cumsum(self._counts, axis=1)
        rows = {
            "min": values[(self._counts > 0).argmax(1)],
            "max": values[255 - (self._counts[:, ::-1] > 0).argmax(1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(square - mean**2, 0)),
        }
        for q in QUANTILES:
            rows[quantile_name(q)] = values[(cumulative >= q * total[:, None]).argmax(1)]
        shaped: dict[str, list[Any]] = {
            name: row.reshape(3, 1, 1).tolist() for name, row in rows.items()
        }
        return shaped | {"count": [self._frames]}


def counted_frames(steps: int) -> set[int]:
    """Which frames of an episode a `PictureHistogram` is to count: evenly spaced, 20 at most."""
    return set(np.linspace(0, steps - 1, min(steps, _MOST_FRAMES)).round().astype(int).tolist())

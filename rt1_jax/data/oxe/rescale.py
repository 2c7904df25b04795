"""The rescalings of the published RT-1-X training, over [..., size] arrays.

All are those of the "map function" cells of `colabs/Minimal_Training_Example.ipynb` in
`google-deepmind/open_x_embodiment`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Bound = float | Sequence[float]
Actions = Mapping[str, np.ndarray]


def to_range(
    value: np.ndarray,
    low: Bound,
    high: Bound,
    new_low: float = -1.0,
    new_high: float = 1.0,
    safety_margin: float = 0.0,
) -> np.ndarray:
    """Maps [low, high] linearly to [new_low, new_high], then clips to that less the margin."""
    low_, high_ = np.asarray(low, np.float32), np.asarray(high, np.float32)
    share = (np.asarray(value, np.float32) - low_) / (high_ - low_)
    scaled = share * (new_high - new_low) + new_low
    return np.clip(scaled, new_low + safety_margin, new_high - safety_margin)


def standardized(value: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(value - mean) / std."""
    return (np.asarray(value, np.float32) - np.asarray(mean, np.float32)) / np.asarray(
        std, np.float32
    )


def changed(
    **fields: Callable[[np.ndarray], np.ndarray],
) -> Callable[[Actions], dict[str, np.ndarray]]:
    """A rescaling that changes the named fields each by its function and keeps the others."""

    def rescale(actions: Actions) -> dict[str, np.ndarray]:
        return {
            name: fields[name](value) if name in fields else value
            for name, value in actions.items()
        }

    return rescale


unchanged = changed()

"""Standardising sentence embeddings before they reach the model.

Two instructions that differ by one word have embeddings of cosine 0.6-0.8, so what tells them apart
is a small difference on a large common vector. Subtracting the mean over the training instructions
and dividing by the standard deviation per dimension removes the common part; the result is scaled
to a length of about one, the length of the raw embedding, so that one optimiser step changes what
the layers behind it give no more than it would with raw embeddings (with a length of 22, that of
512 numbers of order one, FiLM's output is noise for the first thousands of steps). RT-1 and RT-1-X
were trained on raw embeddings: their checkpoints have no such statistics.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jax.typing import ArrayLike

# Dimensions that hardly vary over the training instructions must not be blown up.
_MIN_STD = 1e-3
# A new sentence may lie far outside in a dimension that hardly varied in training.
_CLIP = 6.0


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingStatistics:
    """Mean and standard deviation per dimension, each float32 [dimensions]."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray) -> EmbeddingStatistics:
        """Statistics of the training instructions' embeddings: float32 [n, dimensions]."""
        if embeddings.ndim != 2 or embeddings.shape[0] < 2:
            raise ValueError(
                f"standardising needs at least two instructions' embeddings, got {embeddings.shape}"
            )
        std = np.maximum(embeddings.std(0), _MIN_STD)
        return cls(embeddings.mean(0).astype(np.float32), std.astype(np.float32))

    def apply(self, embeddings: ArrayLike) -> Any:
        """[..., dimensions] -> the same, standardised, clipped to +-6 deviations, of length ~1."""
        scaled = (embeddings - self.mean) / self.std
        return scaled.clip(-_CLIP, _CLIP) / np.float32(math.sqrt(len(self.mean)))

    def to_json(self) -> dict[str, list[float]]:
        return {
            "mean": [float(x) for x in self.mean],
            "std": [float(x) for x in self.std],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EmbeddingStatistics:
        mean = np.asarray(data["mean"], np.float32)
        std = np.asarray(data["std"], np.float32)
        if mean.ndim != 1 or mean.shape != std.shape or not (std > 0).all():
            raise ValueError(
                f"embedding statistics must be two vectors of one length with positive std, got "
                f"mean {mean.shape} and std {std.shape}"
            )
        return cls(mean, std)

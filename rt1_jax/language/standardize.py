"""Conditioning sentence embeddings before they reach the model.

Two instructions that differ by one word have embeddings of cosine 0.6-0.8, so what tells them apart
is a small difference on a large common vector, spread over 512 numbers. A small FiLM trained for
minutes never finds it (docs/learning.md). Here the embeddings are standardised over the training
instructions, turned to their principal components, of which the first few are kept with their
spreads drawn together (divided by the root of their standard deviation), and scaled to a length of
about two. RT-1 and RT-1-X were trained on raw embeddings; their checkpoints hold no statistics.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jax.typing import ArrayLike

# Dimensions that hardly vary over the training instructions must not be blown up.
_MIN_STD = 1e-3
# A new sentence may lie far outside in a dimension that hardly varied in training.
_CLIP = 6.0
_LENGTH = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingStatistics:
    """Per dimension mean and std, float32 [dimensions]; projection [dimensions, components]."""

    mean: np.ndarray
    std: np.ndarray
    projection: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray, components: int) -> EmbeddingStatistics:
        """Statistics of the training instructions' embeddings: float32 [n, dimensions].

        Raises:
          ValueError: fewer than `components` + 1 instructions.
        """
        if embeddings.ndim != 2 or embeddings.shape[0] <= components:
            raise ValueError(
                f"{components} embedding components need more than {components} instructions' "
                f"embeddings, got {embeddings.shape}; lower data.embedding_components (and "
                "model.embedding_size with it)"
            )
        x = embeddings.astype(np.float64)
        std = np.maximum(x.std(0), _MIN_STD)
        scaled = (x - x.mean(0)) / std
        variances, directions = np.linalg.eigh(scaled.T @ scaled / len(x))
        variances, directions = variances[::-1][:components], directions[:, ::-1][:, :components]
        # The sign of an eigenvector is arbitrary: its largest entry is made positive.
        largest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], axis=0)
        directions = directions * np.sign(largest)
        # Component i then has variance variances[i] ** 0.5; their sum is the squared length.
        gain = np.maximum(variances, 1e-6) ** -0.25
        gain *= _LENGTH / np.sqrt((np.maximum(variances, 1e-6) ** 0.5).sum())
        return cls(*(a.astype(np.float32) for a in (x.mean(0), std, directions * gain)))

    def apply(self, embeddings: ArrayLike) -> Any:
        """[..., dimensions] -> [..., components]."""
        scaled = (embeddings - self.mean) / self.std
        return scaled.clip(-_CLIP, _CLIP) @ self.projection

    def to_json(self) -> dict[str, Any]:
        arrays = {"mean": self.mean, "std": self.std, "projection": self.projection}
        return {name: array.tolist() for name, array in arrays.items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EmbeddingStatistics:
        """Reads what `to_json` wrote; raises ValueError where the shapes disagree."""
        names = ("mean", "std", "projection")
        if missing := [name for name in names if name not in data]:
            raise ValueError(f"embedding statistics lack {missing[0]!r}")
        mean, std, projection = (np.asarray(data[name], np.float32) for name in names)
        fit = mean.ndim == 1 and mean.shape == std.shape and projection.ndim == 2
        if not (fit and len(projection) == len(mean) and (std > 0).all()):
            raise ValueError(
                "embedding statistics must be two vectors of one length with positive std and a "
                f"matrix of as many rows, got {mean.shape}, {std.shape} and {projection.shape}"
            )
        return cls(mean, std, projection)

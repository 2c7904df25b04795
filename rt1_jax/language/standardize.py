"""Conditioning sentence embeddings before they reach the model.

Two instructions that differ by one word have embeddings of cosine 0.6-0.8, so what tells them apart
is a small difference on a large common vector, spread over 512 numbers. A small FiLM trained for
minutes never finds it (docs/learning.md). Here the embeddings are standardised, and projected onto
the few directions from which the words of the training instructions, and their order, are read
best: reduced-rank regression (Izenman 1975) of `word_features` on the embedding, an instruction
counting as often as it was given. The components' spreads are drawn together (divided by the root
of their standard deviation) and scaled to a length of about two. Nothing but the instructions' own
text is used. RT-1 and RT-1-X were trained on raw embeddings; their checkpoints hold no statistics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from rt1_jax.language.words import word_features

# Dimensions that hardly vary over the training instructions must not be blown up.
_MIN_STD = 1e-3
# A new sentence may lie far outside in a dimension that hardly varied in training.
_CLIP = 6.0
_LENGTH = 2.0
# Of the mean variance of the standardised embedding; there are about as many instructions as
# dimensions, which plain least squares would fit by heart.
_RIDGE = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingStatistics:
    """Per dimension mean and std, float32 [dimensions]; projection [dimensions, components]."""

    mean: np.ndarray
    std: np.ndarray
    projection: np.ndarray

    @classmethod
    def of(
        cls,
        embeddings: np.ndarray,
        instructions: Sequence[str],
        components: int,
        counts: np.ndarray | None = None,
        *,
        pad: bool = False,
    ) -> EmbeddingStatistics:
        """Statistics of the training instructions.

        Args:
          embeddings: float32 [n, dimensions].
          instructions: the n distinct sentences.
          components: how many numbers the model is given.
          counts: [n], how often each was given; once if None.
          pad: where the words vary in fewer ways, leave the other components zero.

        Raises:
          ValueError: the instructions' words vary in fewer than `components` ways, without `pad`.
        """
        n = len(instructions)
        if embeddings.ndim != 2 or len(embeddings) != n or n == 0:
            raise ValueError(
                f"expected embeddings [{n}, dimensions] of as many instructions, at least one, got "
                f"{embeddings.shape}"
            )
        weights = np.ones(n) if counts is None else np.asarray(counts, np.float64)
        weights = (weights / weights.sum())[:, None]
        mean, std = _moments(embeddings.astype(np.float64), weights)
        std = np.maximum(std, _MIN_STD)
        scaled = (embeddings - mean) / std  # [n, dimensions]
        words = word_features(instructions)  # [n, words]
        words_mean, words_std = _moments(words, weights)
        words = (words - words_mean) / np.maximum(words_std, _MIN_STD)
        gram = scaled.T @ (weights * scaled)
        ridge = _RIDGE * max(np.trace(gram), 1e-12) / len(gram) * np.eye(len(gram))
        readout = np.linalg.solve(gram + ridge, scaled.T @ (weights * words))  # [dimensions, words]
        variances, directions = np.linalg.eigh(readout.T @ gram @ readout)
        varying = int((variances > 1e-6 * max(variances.max(initial=0.0), 1e-6)).sum())
        if varying < components and not pad:
            raise ValueError(
                f"the words of {n} instructions vary in {varying} ways, which is fewer than "
                f"{components} embedding components; lower data.embedding_components (and "
                "model.embedding_size with it)"
            )
        kept = min(varying, components)
        variances, directions = variances[::-1][:kept], directions[:, ::-1][:, :kept]
        projection = readout @ directions  # [dimensions, components]
        # The sign of an eigenvector is arbitrary: its largest entry is made positive.
        largest = np.take_along_axis(projection, np.abs(projection).argmax(0)[None], axis=0)
        # Component i then has variance variances[i] ** 0.5; their sum is the squared length.
        gain = np.sign(largest) * variances**-0.25
        gain *= _LENGTH / np.sqrt((variances**0.5).sum())
        projection = np.pad(projection * gain, ((0, 0), (0, components - kept)))
        return cls(*(a.astype(np.float32) for a in (mean, std, projection)))

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


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over rows [n, d] with weights [n, 1] that sum to one."""
    mean = (weights * values).sum(0)
    return mean, np.sqrt((weights * (values - mean) ** 2).sum(0))

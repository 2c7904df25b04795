"""Instructions -> embeddings, kept: a robot says the same words at every step.

The checkpoint's own encoder embeds, in a thread of its own. A TensorFlow encoder is never loaded
into the server: make a file of the instructions that robots may use, once, and start the server
with `--embeddings`.

    python -m rt1_jax.serving.embeddings --checkpoint=PATH --instructions=FILE.txt --output=FILE.npz

FILE.txt holds one instruction a line; FILE.npz holds `instructions` [n], `embeddings`, float32
[n, d], and `encoder`, the encoder's name.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rt1_jax.files import write_atomically
from rt1_jax.language import CHECK_SENTENCE, EncoderIdentity
from rt1_jax.serving.observation import ObservationError

# What NumPy raises for a file that is missing, no archive, cut short, of objects, or an array.
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)


class EmbeddingFileError(ValueError):
    """A file of embeddings that is missing, damaged or of another encoder."""


class InstructionEmbedder:
    """Embeds instructions and remembers the most recent ones.

    Args:
      embed: list of n strings -> float32 [n, d]; `Policy.embed`.
      encoder: the encoder that the checkpoint names.
      table: instructions whose embeddings are known already.
      capacity: how many others are remembered.
      on_look: told whether an instruction was known, at every call.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[str]], np.ndarray],
        encoder: EncoderIdentity,
        table: Mapping[str, np.ndarray] | None = None,
        capacity: int = 1024,
        on_look: Callable[[bool], None] = lambda known: None,
    ) -> None:
        self._embed = embed
        self._table = dict(table or {})
        self._capacity = capacity
        self._on_look = on_look
        self._recent: collections.OrderedDict[str, np.ndarray] = collections.OrderedDict()
        # Two robots that say the same new words at once wait for one embedding.
        self._running: dict[str, asyncio.Future[np.ndarray]] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "encoder")
        self.unavailable = _why_unavailable(encoder)

    def warm(self) -> str | None:
        """Loads the encoder. Blocks. Returns why it cannot embed, or None."""
        if self.unavailable is None:
            try:
                self._embed([CHECK_SENTENCE])
            except (ValueError, OSError, ImportError) as error:
                self.unavailable = str(error)
        return self.unavailable

    async def __call__(self, instruction: str) -> np.ndarray:
        """The embedding of an instruction: float32 [d].

        Raises:
          ObservationError: it is not in the table and the encoder cannot embed here.
        """
        known = self._table.get(instruction)
        if known is None and instruction in self._recent:
            self._recent.move_to_end(instruction)
            known = self._recent[instruction]
        self._on_look(known is not None)
        if known is not None:
            return known
        if self.unavailable is not None:
            raise ObservationError("instruction", self._refusal())
        running = self._running.get(instruction)
        if running is None:
            running = asyncio.ensure_future(self._embed_new(instruction))
            self._running[instruction] = running
            running.add_done_callback(lambda _: self._running.pop(instruction, None))
        return await asyncio.shield(running)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _embed_new(self, instruction: str) -> np.ndarray:
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._thread, self._embed, [instruction])
        embedding = np.asarray(rows[0], np.float32)
        self._recent[instruction] = embedding
        if len(self._recent) > self._capacity:
            self._recent.popitem(last=False)
        return embedding

    def _refusal(self) -> str:
        known = f"; {len(self._table)} instructions are in its file" if self._table else ""
        return (
            f"this server cannot embed it ({self.unavailable}){known}; send 'embedding', or start "
            "the server with --embeddings"
        )


def read_embeddings(
    path: str | os.PathLike[str], encoder: EncoderIdentity
) -> dict[str, np.ndarray]:
    """Reads a file of embeddings: {instruction: float32 [d]}.

    Raises:
      EmbeddingFileError: missing, damaged, or made by another encoder than `encoder`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names, rows, made_by = (file[k] for k in ("instructions", "embeddings", "encoder"))
    except _UNREADABLE as error:
        raise EmbeddingFileError(f"{path} is not a file of embeddings ({error})") from error
    if str(made_by) != encoder.name:
        raise EmbeddingFileError(
            f"{path} was made by {str(made_by)!r}, the checkpoint needs {encoder.name!r}"
        )
    if names.ndim != 1 or rows.shape != (len(names), encoder.dimensions) or rows.dtype.kind != "f":
        raise EmbeddingFileError(
            f"{path} holds {rows.dtype} {list(rows.shape)} for {names.size} instructions, expected "
            f"float32 [{names.size}, {encoder.dimensions}]"
        )
    if not np.isfinite(rows).all():
        raise EmbeddingFileError(f"{path} holds an embedding that is not finite")
    return {str(name): row for name, row in zip(names, rows.astype(np.float32), strict=True)}


def write_embeddings(
    path: str | os.PathLike[str],
    instructions: Sequence[str],
    embeddings: np.ndarray,
    encoder: EncoderIdentity,
) -> None:
    """Writes what `read_embeddings` reads; embeddings are float32 [n, d]."""
    arrays: dict[str, Any] = {
        "instructions": np.asarray(instructions, np.str_),
        "embeddings": np.asarray(embeddings, np.float32),
        "encoder": np.asarray(encoder.name),
    }
    write_atomically(path, lambda file: np.savez(file, **arrays))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.serving.embeddings", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--checkpoint", required=True, help="whose encoder embeds")
    parser.add_argument("--instructions", required=True, help="text file, one a line")
    parser.add_argument("--output", required=True, help="the .npz file to write")
    given = parser.parse_args(arguments)
    try:
        with open(given.instructions, encoding="utf-8") as file:
            instructions = list(dict.fromkeys(line.strip() for line in file if line.strip()))
        if not instructions:
            raise EmbeddingFileError(f"{given.instructions} holds no instruction")
        import rt1_jax

        policy: Any = rt1_jax.load_policy(given.checkpoint)
        embeddings = policy.embed(instructions)
        write_embeddings(given.output, instructions, embeddings, policy.description.encoder)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{given.output}: {len(instructions)} instructions")
    return 0


def _why_unavailable(encoder: EncoderIdentity) -> str | None:
    if encoder.name.startswith("tfhub:"):
        return f"its encoder {encoder.name!r} needs TensorFlow, which a server does not load"
    return None


if __name__ == "__main__":
    sys.exit(main())

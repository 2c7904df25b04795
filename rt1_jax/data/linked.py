"""Shards that leave the frames where they are: an index of their places in a file of another kind.

    shard-*.npy   one row a step: where its frame lies in the linked file, its CRC-32C, the action
    shard-*.json  as beside every shard, with `linked_to`: the file's path and its size

Frames are read from the linked file, checked against their checksums. A row is read from the disk
when it is asked for, so memory does not grow with the data.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.encoded import EncodedEpisode
from rt1_jax.data.shards import DatasetError, ShardWriter, read_array_header

_GAP = 256
"""Bytes that may lie between neighbouring frames for one read to take both."""


class LinkedWriter(ShardWriter):
    """Writes one shard of links. It appears under its name only when `close` has succeeded.

    Args:
      shard_path: `DIR/shard-00003.npy`.
      linked_to: the file with the frames.
      image_format, action_spec: as for `EpisodeWriter`.
    """

    suffix = ".npy"

    def __init__(
        self,
        shard_path: str | os.PathLike[str],
        linked_to: str | os.PathLike[str],
        image_format: str,
        action_spec: ActionSpec,
    ) -> None:
        super().__init__(shard_path, image_format, action_spec)
        self._dtype = _row_dtype({field.name: field.size for field in action_spec.fields})
        self._rows: list[np.ndarray] = []
        file = pathlib.Path(linked_to).absolute()
        self.notes["linked_to"] = {"path": str(file), "bytes": file.stat().st_size}

    def add(self, episode: EncodedEpisode, offsets: Sequence[int] = ()) -> None:
        """Appends an episode.

        Args:
          episode: with the frames as they are in the file.
          offsets: where each of them begins there, in bytes.

        Raises:
          EpisodeError, DatasetError: it does not fit.
        """
        self._check(episode, episode.check_frames(self._image_format))
        rows = np.zeros(len(episode), self._dtype)
        rows["offset"] = offsets
        rows["bytes"] = [len(frame) for frame in episode.frames]
        rows["crc"] = [google_crc32c.value(frame) for frame in episode.frames]
        for name, value in episode.actions.items():
            rows[name] = value
        self._rows.append(rows)
        self._note(episode)

    def _finish(self) -> None:
        rows = np.concatenate(self._rows) if self._rows else np.zeros(0, self._dtype)
        with open(self._temporary, "wb") as file:
            np.save(file, rows)


class LinkedReader:
    """Reads steps of a linked shard; holds no file open and no row in memory.

    Args:
      path: the shard.
      linked_to: the file with the frames; None where only actions are asked for.
      expected_bytes: what the file had when it was linked.

    Raises:
      DatasetError: one of the two is missing, cut short or not what it was.
    """

    def __init__(
        self,
        path: pathlib.Path,
        linked_to: pathlib.Path | None = None,
        expected_bytes: int | None = None,
    ) -> None:
        self._path, self._linked_to = path, linked_to
        self._dtype, self._count, self._first_byte = read_array_header(path)
        self._fields = [name for name in self._dtype.names or () if name not in _PLACE]
        if linked_to is not None:
            check_linked(linked_to, expected_bytes)

    def num_records(self) -> int:
        return self._count

    def read_steps(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Steps [start, stop) as `decode_step` gives them: the frame encoded, and the action.

        Raises:
          OSError: a frame that is not what was linked.
        """
        if self._linked_to is None:
            raise DatasetError(f"{self._path}: its frames' file was not given")
        rows = self._rows(start, stop)
        frames = _read_frames(self._linked_to, rows)
        return [
            {"image": frame, "action": {name: row[name] for name in self._fields}}
            for frame, row in zip(frames, rows, strict=True)
        ]

    def read_actions(self, rows: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """The actions of some steps, in growing order; no frame is read."""
        if not len(rows):
            return []
        first = rows[0]
        found = self._rows(first, rows[-1] + 1)[np.asarray(rows) - first]  # copied
        return [{name: row[name] for name in self._fields} for row in found]

    def close(self) -> None:
        """Nothing is open."""

    def _rows(self, start: int, stop: int) -> np.ndarray:
        if not 0 <= start <= stop <= self._count:
            raise IndexError(f"rows {start}..{stop} of {self._count}")
        size = self._dtype.itemsize
        with open(self._path, "rb") as file:
            wanted = (stop - start) * size
            found = os.pread(file.fileno(), wanted, self._first_byte + start * size)
        if len(found) != wanted:
            raise OSError(f"{self._path} ends early")
        return np.frombuffer(found, self._dtype)


def check_linked(path: pathlib.Path, expected_bytes: int | None) -> None:
    """Raises DatasetError unless a linked file is there, with the size that it had."""
    hint = (
        'if the files moved, write their directory to "linked": "directory" in dataset.json; '
        "if they changed, import them again"
    )
    if not path.exists():
        raise DatasetError(f"{path} is missing, whose frames this dataset links to; {hint}")
    found = path.stat().st_size
    if expected_bytes is not None and found != expected_bytes:
        raise DatasetError(
            f"{path} has {found} bytes, but {expected_bytes} when this dataset linked to its "
            f"frames; {hint}"
        )


_PLACE = ("offset", "bytes", "crc")


def _row_dtype(sizes: dict[str, int]) -> np.dtype:
    place = [("offset", "<i8"), ("bytes", "<u4"), ("crc", "<u4")]
    return np.dtype([*place, *((name, "<f4", (size,)) for name, size in sizes.items())])


def _read_frames(path: pathlib.Path, rows: np.ndarray) -> list[bytes]:
    """The rows' frames; neighbours by one read."""
    starts, sizes = rows["offset"].tolist(), rows["bytes"].tolist()
    frames: list[bytes] = []
    with open(path, "rb") as file:
        while len(frames) < len(rows):
            first = last = len(frames)
            end = starts[first] + sizes[first]
            while last + 1 < len(rows) and 0 <= starts[last + 1] - end <= _GAP:
                last += 1
                end = starts[last] + sizes[last]
            base = starts[first]
            found = os.pread(file.fileno(), end - base, base)
            frames += [
                found[starts[i] - base : starts[i] - base + sizes[i]]
                for i in range(first, last + 1)
            ]
    for row, frame in zip(rows, frames, strict=True):
        if google_crc32c.value(frame) != row["crc"]:
            raise OSError(
                f"{path} holds another frame at byte {row['offset']} than when it was linked"
            )
    return frames

"""One shard of a dataset: a file with one record a step, and its list of episodes.

A shard is an ArrayRecord file, or one of links to frames elsewhere (`rt1_jax.data.linked`).

`rt1_jax.data.store` makes a dataset directory of shards and reads windows of steps from it.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.encoded import EncodedEpisode
from rt1_jax.data.episode import Episode, decode_step, encode_image, encode_step
from rt1_jax.data.statistics import ActionMoments
from rt1_jax.files import write_atomically

VERSION = 1
_WRITER_OPTIONS = "group_size:1,uncompressed"  # frames are compressed already
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # for random access
_READER_BUFFER = 1 << 12
"""Bytes. With Riegeli's default of 1 MiB a window of six frames takes three times as long."""


class DatasetError(ValueError):
    """A dataset directory that is missing, unfinished, damaged or of another kind."""


class ShardWriter:
    """What every kind of shard notes of its episodes, and how it comes under its name.

    Args:
      shard_path: `DIR/shard-00003` and the kind's suffix; its list of episodes is put beside it as
        `.json`.
      image_format: "png" or "jpeg".
      action_spec: checked against every episode.

    Attributes:
      notes: more to note beside the list of episodes, JSON-able.
    """

    suffix: str

    def __init__(
        self,
        shard_path: str | os.PathLike[str],
        image_format: str = "png",
        action_spec: ActionSpec | None = None,
    ) -> None:
        self.path = pathlib.Path(shard_path)
        if self.path.suffix != self.suffix:
            raise DatasetError(f"shard {self.path} must end in {self.suffix}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = self.path.with_suffix(f".partial-{os.getpid()}")
        self._image_format = image_format
        self._spec = action_spec
        self._episodes: list[dict[str, Any]] = []
        self._moments = ActionMoments(action_spec)
        self._image_size: list[int] | None = None
        self.notes: dict[str, Any] = {}

    def close(self) -> None:
        """Makes the shard visible under its final name, its list of episodes first."""
        self._finish()
        index = {
            "version": VERSION,
            "image_format": self._image_format,
            "image_size": self._image_size,
            "episodes": self._episodes,
            "action_moments": self._moments.to_json(),
            **self.notes,
        }
        # Not waited for at each shard, which is slow: one that a loss of power has cut short is
        # found when the making goes on, or the dataset is opened.
        write_atomically(self.path.with_suffix(".json"), json.dumps(index), durable=False)
        os.replace(self._temporary, self.path)

    def abort(self) -> None:
        """Drops what has been written."""
        try:
            self._finish()
        except Exception:  # of a full disk: that it cannot be ended well is no news
            pass
        finally:
            self._temporary.unlink(missing_ok=True)
            if not self.path.exists():
                self.path.with_suffix(".json").unlink(missing_ok=True)

    def _finish(self) -> None:
        """Writes what is left to write to the temporary file, and closes it."""
        raise NotImplementedError

    def _check(self, episode: Episode | EncodedEpisode, size: Sequence[int]) -> None:
        """Raises EpisodeError or DatasetError unless it fits the spec and the shard's frames."""
        if self._spec is not None:
            episode.validate(self._spec)
        if self._image_size is None:
            self._image_size = list(size)
        elif list(size) != self._image_size:
            raise DatasetError(
                f"frames of {list(size)} in a shard of {self._image_size}: one dataset has one size"
            )

    def _note(self, episode: Episode | EncodedEpisode) -> None:
        self._moments.add(episode.actions)
        self._episodes.append(
            {
                "length": len(episode),
                "instruction": episode.instruction,
                "metadata": episode.metadata,
            }
        )


class EpisodeWriter(ShardWriter):
    """Writes one ArrayRecord shard. It appears under its name only when `close` has succeeded."""

    suffix = ".array_record"

    def __init__(
        self,
        shard_path: str | os.PathLike[str],
        image_format: str = "png",
        action_spec: ActionSpec | None = None,
    ) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        super().__init__(shard_path, image_format, action_spec)
        self._writer = ArrayRecordWriter(str(self._temporary), _WRITER_OPTIONS)

    def add(self, episode: Episode | EncodedEpisode) -> None:
        """Appends an episode; frames that are encoded already are kept as they are.

        Raises:
          EpisodeError, DatasetError: it does not fit, and nothing was written.
        """
        if isinstance(episode, EncodedEpisode):
            self._check(episode, episode.check_frames(self._image_format))
            frames = episode.frames
        else:
            self._check(episode, episode.images.shape[1:3])
            frames = [encode_image(image, self._image_format) for image in episode.images]
        # A field's numbers of all steps are bytes in a row: a step's are a slice of them.
        rows = {
            name: (np.asarray(value, "<f4").tobytes(), 4 * value.shape[1])
            for name, value in episode.actions.items()
        }
        for t, frame in enumerate(frames):
            action = {n: row[t * size : (t + 1) * size] for n, (row, size) in rows.items()}
            self._writer.write(encode_step(frame, action, t, len(episode)))
        self._note(episode)

    def _finish(self) -> None:
        self._writer.close()


def read_shard_index(path: pathlib.Path) -> dict[str, Any]:
    """What `EpisodeWriter` noted of a shard: version, frame size, episodes, action moments."""
    if not path.exists():
        raise DatasetError(f"shard {path} is missing")
    try:
        return json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path.with_suffix('.json')} cannot be read ({error})") from error


class ShardReader:
    """Steps of an ArrayRecord shard. Raises DatasetError if the file is missing or not whole."""

    def __init__(self, path: pathlib.Path) -> None:
        from array_record.python.array_record_module import ArrayRecordReader

        if not path.exists():
            raise DatasetError(f"shard {path} is missing; make or copy the dataset again")
        try:
            self._reader = ArrayRecordReader(
                str(path), _READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER
            )
            self._reader.num_records()
        except (ValueError, RuntimeError, OSError) as error:
            raise DatasetError(f"{path} is not a whole ArrayRecord file ({error})") from error

    def num_records(self) -> int:
        return self._reader.num_records()

    def read_steps(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Steps [start, stop), see `decode_step`."""
        return [decode_step(record) for record in self._reader.read(start, stop)]

    def read_actions(self, rows: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """The actions of some steps, copied: a view would keep the whole record in memory."""
        found = []
        for record in self._reader.read(list(rows)):
            action = decode_step(record)["action"]
            found.append({name: value.copy() for name, value in action.items()})
        return found

    def close(self) -> None:
        self._reader.close()


def count_steps(path: pathlib.Path) -> int:
    """How many steps a shard of either kind holds. Raises DatasetError as its reader does."""
    if path.suffix == EpisodeWriter.suffix:
        return ShardReader(path).num_records()
    return read_array_header(path)[1]


def read_array_header(path: pathlib.Path) -> tuple[np.dtype, int, int]:
    """Of a `.npy` file with one axis: type of a row, number of rows, where the first begins.

    Raises:
      DatasetError: missing, of another kind, or shorter than its header says.
    """
    if not path.exists():
        raise DatasetError(f"shard {path} is missing; make or copy the dataset again")
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            first = file.tell()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is no array of links ({error}); import again") from error
    size = path.stat().st_size
    if len(shape) != 1 or dtype.names is None or size != first + shape[0] * dtype.itemsize:
        raise DatasetError(
            f"{path} has {size} bytes, its header says {list(shape)} rows of {dtype.itemsize}: it "
            "is truncated; import again"
        )
    return dtype, shape[0], first

"""One shard of a dataset: an ArrayRecord file with one record a step, and its list of episodes.

`rt1_jax.data.store` makes a dataset directory of shards and reads windows of steps from it.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.encoded import EncodedEpisode
from rt1_jax.data.episode import Episode, encode_image, encode_step
from rt1_jax.data.statistics import ActionMoments
from rt1_jax.files import write_atomically

VERSION = 1
_SHARD_SUFFIX = ".array_record"
_WRITER_OPTIONS = "group_size:1,uncompressed"  # frames are compressed already
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # for random access
_READER_BUFFER = 1 << 12
"""Bytes. With Riegeli's default of 1 MiB a window of six frames takes three times as long."""


class DatasetError(ValueError):
    """A dataset directory that is missing, unfinished, damaged or of another kind."""


class EpisodeWriter:
    """Writes one shard. It appears under its name only when `close` has succeeded.

    Args:
      shard_path: `DIR/shard-00003.array_record`; its list of episodes is put beside it as `.json`.
      image_format: "png" or "jpeg".
      action_spec: checked against every episode.

    Attributes:
      notes: more to note beside the list of episodes, JSON-able.
    """

    def __init__(
        self,
        shard_path: str | os.PathLike[str],
        image_format: str = "png",
        action_spec: ActionSpec | None = None,
    ) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        self.path = pathlib.Path(shard_path)
        if self.path.suffix != _SHARD_SUFFIX:
            raise DatasetError(f"shard {self.path} must end in {_SHARD_SUFFIX}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = self.path.with_suffix(f".partial-{os.getpid()}")
        self._image_format = image_format
        self._spec = action_spec
        self._writer = ArrayRecordWriter(str(self._temporary), _WRITER_OPTIONS)
        self._episodes: list[dict[str, Any]] = []
        self._moments = ActionMoments(action_spec)
        self._image_size: list[int] | None = None
        self.notes: dict[str, Any] = {}

    def add(self, episode: Episode | EncodedEpisode) -> None:
        """Appends an episode; frames that are encoded already are kept as they are.

        Raises:
          EpisodeError, DatasetError: it does not fit, and nothing was written.
        """
        if self._spec is not None:
            episode.validate(self._spec)
        if isinstance(episode, EncodedEpisode):
            size, frames = list(episode.check_frames(self._image_format)), episode.frames
        else:
            size = list(episode.images.shape[1:3])
            frames = [encode_image(image, self._image_format) for image in episode.images]
        if self._image_size is None:
            self._image_size = size
        elif size != self._image_size:
            raise DatasetError(
                f"frames of {size} in a shard of {self._image_size}: one dataset has one size"
            )
        # A field's numbers of all steps are bytes in a row: a step's are a slice of them.
        rows = {
            name: (np.asarray(value, "<f4").tobytes(), 4 * value.shape[1])
            for name, value in episode.actions.items()
        }
        for t, frame in enumerate(frames):
            action = {n: row[t * size : (t + 1) * size] for n, (row, size) in rows.items()}
            self._writer.write(encode_step(frame, action, t, len(episode)))
        self._moments.add(episode.actions)
        self._episodes.append(
            {
                "length": len(episode),
                "instruction": episode.instruction,
                "metadata": episode.metadata,
            }
        )

    def close(self) -> None:
        """Makes the shard visible under its final name, its list of episodes first."""
        self._writer.close()
        index = {
            "version": VERSION,
            "image_format": self._image_format,
            "image_size": self._image_size,
            "episodes": self._episodes,
            "action_moments": self._moments.to_json(),
            **self.notes,
        }
        # Not waited for at each shard, which is slow: one that a loss of power has cut short is found
        # when the making goes on, or the dataset is opened.
        write_atomically(self.path.with_suffix(".json"), json.dumps(index), durable=False)
        os.replace(self._temporary, self.path)

    def abort(self) -> None:
        """Drops what has been written."""
        try:
            self._writer.close()
        except Exception:  # of a full disk: that it cannot be ended well is no news
            pass
        finally:
            self._temporary.unlink(missing_ok=True)
            if not self.path.exists():
                self.path.with_suffix(".json").unlink(missing_ok=True)


def read_shard_index(path: pathlib.Path) -> dict[str, Any]:
    """What `EpisodeWriter` noted of a shard: version, frame size, episodes, action moments."""
    if not path.exists():
        raise DatasetError(f"shard {path} is missing")
    try:
        return json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path.with_suffix('.json')} cannot be read ({error})") from error


def open_shard(path: pathlib.Path) -> Any:
    """An ArrayRecord reader. Raises DatasetError if the file is missing or not whole."""
    from array_record.python.array_record_module import ArrayRecordReader

    if not path.exists():
        raise DatasetError(f"shard {path} is missing; make or copy the dataset again")
    try:
        reader = ArrayRecordReader(
            str(path), _READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER
        )
        reader.num_records()
    except (ValueError, RuntimeError, OSError) as error:
        raise DatasetError(f"{path} is not a whole ArrayRecord file ({error})") from error
    return reader

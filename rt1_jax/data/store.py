"""The dataset directory, open for reading: shards with one record a step, and an index.

    dataset.json        version, action spec, frame size and rate, encoder, source, statistics;
                        written last, so that a directory without it is an unfinished dataset
    episodes.npz        per episode: shard, first record, number of steps, instruction
    instructions.json   the distinct instructions
    embeddings.npy      float32 [instructions, dimensions], one row an instruction
    shard-*.array_record, shard-*.json   the steps; each shard's own list of episodes
    shard-*.npy                          in their place: links to frames that stay in other files
    import.json, generation.json         what the data are made of, for whoever makes them again
    stored_embeddings.npz                vectors that came with the data, for the same

One record a step makes a window of frames a short contiguous read, and any window reachable at
random without a shuffle buffer.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.encoded import EncodedEpisode
from rt1_jax.data.episode import Episode, decode_images
from rt1_jax.data.finish import EMBEDDINGS
from rt1_jax.data.linked import LinkedReader, check_linked
from rt1_jax.data.shards import VERSION, DatasetError, ShardReader, read_shard_index
from rt1_jax.language import EncoderIdentity

_OPEN_RECORDS = 250_000
"""Of the shards open at once: a reader holds its file's index, 8 bytes a record or more."""


@dataclasses.dataclass
class StepStore:
    """A finished dataset, open for reading windows of steps.

    Picklable: worker processes reopen the shards themselves. With `cache_bytes`, decoded episodes
    are kept in memory until that much is used, and the rest is decoded on each read: a small
    dataset is decoded once instead of once a window, a large one costs what the limit says.

    Attributes:
      directory: where it is.
      description: the content of `dataset.json`.
      action_spec, encoder: what the actions mean, and who embedded the instructions.
      lengths: int32 [episodes], steps of each episode.
      instruction_ids: int32 [episodes], rows of `instructions` and `embeddings`.
      embeddings: float32 [instructions, dimensions], mapped from its file.
    """

    directory: pathlib.Path
    description: dict[str, Any]
    action_spec: ActionSpec
    encoder: EncoderIdentity
    lengths: np.ndarray
    instruction_ids: np.ndarray
    instructions: list[str]
    embeddings: np.memmap
    _shard: np.ndarray
    _start: np.ndarray
    _cache_left: int = 0
    _cache: dict[int, Episode] = dataclasses.field(default_factory=dict, repr=False)
    _readers: dict[int, Any] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, directory: str | os.PathLike[str], cache_bytes: int = 0) -> StepStore:
        """Opens and checks a dataset directory.

        Args:
          directory: the dataset.
          cache_bytes: memory for decoded episodes, in each process that reads.

        Raises:
          DatasetError: not a dataset, unfinished, of another version, or shards that are missing
            or shorter than the index says.
        """
        root = pathlib.Path(directory)
        description = _read_description(root)
        try:
            with np.load(root / "episodes.npz") as file:
                columns = {
                    name: file[name].astype(np.int32)
                    for name in ("shard", "start", "length", "instruction")
                }
            embeddings = np.load(root / EMBEDDINGS, mmap_mode="r")
            instructions = json.loads((root / "instructions.json").read_text())
        except (OSError, ValueError, KeyError) as error:
            raise DatasetError(
                f"{root}: damaged dataset, {error}; make or copy it again"
            ) from error
        store = cls(
            root,
            description,
            ActionSpec.from_json(description["action_spec"]),
            EncoderIdentity.from_json(description["encoder"]),
            columns["length"],
            columns["instruction"],
            instructions,
            embeddings,
            columns["shard"],
            columns["start"],
            cache_bytes,
        )
        store._check()
        return store

    @property
    def image_size(self) -> tuple[int, int]:
        height, width = self.description["image_size"]
        return height, width

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    def read(self, episode: int, start: int = 0, steps: int | None = None) -> Episode:
        """Reads steps [start, start + steps) of an episode (to its end by default), decoded.

        Raises:
          DatasetError: outside of the episode, or a record that cannot be read.
        """
        length = int(self.lengths[episode])
        stop = length if steps is None else start + steps
        if not 0 <= start < stop <= length:
            raise DatasetError(f"steps {start}..{stop} of episode {episode}, which has {length}")
        if episode not in self._cache and self._cache_left > 0:
            whole = self._decode(episode, 0, length)
            self._cache[episode] = whole
            self._cache_left -= whole.images.nbytes
        if episode not in self._cache:
            return self._decode(episode, start, stop)
        kept = self._cache[episode]
        actions = {name: value[start:stop] for name, value in kept.actions.items()}
        return Episode(kept.images[start:stop], actions, kept.instruction)

    def read_encoded(self, episode: int) -> EncodedEpisode:
        """Reads a whole episode with its frames as the files that they are stored as.

        Raises:
          DatasetError: a record that cannot be read.
        """
        found = self._records(episode, 0, int(self.lengths[episode]))
        text = self.instructions[int(self.instruction_ids[episode])]
        return EncodedEpisode([step["image"] for step in found], self._actions(found), text)

    def select(self, episodes: slice | np.ndarray) -> StepStore:
        """A part of the dataset's episodes, sharing nothing but the files with this one.

        Args:
          episodes: a slice, or their numbers, int64 [n].
        """
        return dataclasses.replace(
            self,
            lengths=self.lengths[episodes],
            instruction_ids=self.instruction_ids[episodes],
            _shard=self._shard[episodes],
            _start=self._start[episodes],
            _cache={},
            _readers={},
        )

    def embedding(self, episode: int) -> np.ndarray:
        """The instruction's embedding of an episode: float32 [dimensions]."""
        row = int(self.instruction_ids[episode])
        size = self.embeddings.shape[1] * self.embeddings.itemsize
        # Read, not mapped: pages that were touched once would count as this process's memory.
        with open(self.directory / EMBEDDINGS, "rb") as file:
            found = os.pread(file.fileno(), size, self.embeddings.offset + row * size)
        return np.frombuffer(found, self.embeddings.dtype)

    def metadata(self) -> list[dict[str, Any]]:
        """Every episode's metadata, in order (read from the shards' lists on each call)."""
        found: list[dict[str, Any]] = []
        for name in self.description["shards"]:
            index = read_shard_index(self.directory / name)
            found += [episode["metadata"] for episode in index["episodes"]]
        return found

    def all_actions(self, field: str) -> np.ndarray:
        """One field of every step of every episode, in order: float32 [steps, size].

        Reads all records but decodes no frame, 80,000 steps a second on one core.
        """
        rows = []
        for episode, length in enumerate(self.lengths):
            first = int(self._start[episode])
            reader = self._reader(int(self._shard[episode]))
            rows += [a[field] for a in reader.read_actions(range(first, first + int(length)))]
        return np.stack(rows)

    def open_shard(self, shard: int) -> ShardReader | LinkedReader:
        """A reader of one shard, to be closed by who asks; its number of steps is checked.

        Raises:
          DatasetError: it is missing or not whole.
        """
        path = self.directory / self.description["shards"][shard]
        linked = self.linked_file(shard)
        reader: ShardReader | LinkedReader
        if linked is None:
            reader = ShardReader(path)
        else:
            reader = LinkedReader(path, linked, self.description["linked"]["bytes"][shard])
        steps = self.description.get("shard_steps")
        if steps is not None:  # an older description has none
            _check_steps(path, reader, steps[shard])
        return reader

    def linked_file(self, shard: int) -> pathlib.Path | None:
        """The file that holds a shard's frames, where it only links to them."""
        linked = self.description.get("linked")
        if linked is None:
            return None
        return pathlib.Path(linked["directory"]) / linked["files"][shard]

    def __getstate__(self) -> dict[str, Any]:
        # A mapped array would be pickled with all its content, to every worker.
        return {**self.__dict__, "_readers": {}, "_cache": {}, "embeddings": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.embeddings = np.load(self.directory / EMBEDDINGS, mmap_mode="r")

    def _decode(self, episode: int, start: int, stop: int) -> Episode:
        found = self._records(episode, start, stop)
        try:
            images = decode_images([step["image"] for step in found])
        except (OSError, ValueError) as error:
            raise self._unreadable(episode, start, stop, error) from error
        text = self.instructions[int(self.instruction_ids[episode])]
        return Episode(images, self._actions(found), text)

    def _records(self, episode: int, start: int, stop: int) -> list[dict[str, Any]]:
        first = int(self._start[episode])
        reader = self._reader(int(self._shard[episode]))
        try:
            return reader.read_steps(first + start, first + stop)
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            raise self._unreadable(episode, start, stop, error) from error

    def _actions(self, steps: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        return {
            field.name: np.stack([step["action"][field.name] for step in steps])
            for field in self.action_spec.fields
        }

    def _unreadable(self, episode: int, start: int, stop: int, error: Exception) -> DatasetError:
        name = self.description["shards"][int(self._shard[episode])]
        return DatasetError(
            f"{self.directory / name}: steps {start}..{stop} of episode {episode} cannot be "
            f"read ({error}); the file is damaged: make or copy it again"
        )

    def _reader(self, shard: int) -> Any:
        reader = self._readers.get(shard)
        if reader is None:
            reader = self.open_shard(shard)
            # The oldest go; other threads may be at it, too.
            held = reader.num_records() + sum(r.num_records() for r in [*self._readers.values()])
            for oldest in [*self._readers]:
                if held <= _OPEN_RECORDS:
                    break
                dropped = self._readers.pop(oldest, None)
                held -= 0 if dropped is None else dropped.num_records()
            self._readers[shard] = reader
        return reader

    def _check(self) -> None:
        name = self.directory / "episodes.npz"
        if len(self) != self.description["episodes"]:
            raise DatasetError(
                f"{name} lists {len(self)} episodes, dataset.json {self.description['episodes']}"
            )
        if self.embeddings.shape != (len(self.instructions), self.encoder.dimensions):
            raise DatasetError(
                f"{self.directory / EMBEDDINGS} has shape {self.embeddings.shape}, expected "
                f"[{len(self.instructions)}, {self.encoder.dimensions}]"
            )
        # Only the files' sizes: no start-up scan that opens them all. What they hold is checked
        # when they are first read.
        sizes = self.description.get("shard_bytes")
        for shard, file in enumerate(self.description["shards"]):
            path = self.directory / file
            if not path.exists():
                raise DatasetError(f"shard {path} is missing; make or copy the dataset again")
            if sizes is None:  # an older description
                expected = int(self.lengths[self._shard == shard].sum())
                _check_steps(path, self.open_shard(shard), expected)
            elif path.stat().st_size != sizes[shard]:
                raise DatasetError(
                    f"{path} has {path.stat().st_size} bytes, expected {sizes[shard]}: it is "
                    "truncated or not of this dataset; make or copy it again"
                )
            linked = self.linked_file(shard)
            if linked is not None:
                check_linked(linked, self.description["linked"]["bytes"][shard])


def _check_steps(path: pathlib.Path, reader: ShardReader | LinkedReader, expected: int) -> None:
    if reader.num_records() != expected:
        raise DatasetError(
            f"{path} holds {reader.num_records()} steps, expected {expected}: it is truncated or "
            "not of this dataset; make or copy it again"
        )


def _read_description(root: pathlib.Path) -> dict[str, Any]:
    if not root.is_dir():
        raise DatasetError(f"no dataset directory {root}")
    path = root / "dataset.json"
    if not path.exists():
        raise DatasetError(
            f"{root} has no dataset.json: it is not a dataset, or making it was interrupted; run "
            "the command that makes it again, finished shards are kept"
        )
    try:
        description = json.loads(path.read_text())
        version = description["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} cannot be read ({error})") from error
    if version != VERSION:
        raise DatasetError(f"{path} is of version {version}, this code reads version {VERSION}")
    return description

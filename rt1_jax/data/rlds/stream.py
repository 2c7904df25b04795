"""Training windows straight from RLDS files, without an import: for a first look, or a bucket.

Files are read in an order of their own each epoch, one after the other, and windows are shuffled
within blocks of episodes. That is less random than the import's order over all windows, and each
pass parses everything again; the position is exact all the same.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.encoded import EncodedEpisode
from rt1_jax.data.episode import decode_image
from rt1_jax.data.oxe.description import RLDSDataset
from rt1_jax.data.resize import resize_frame
from rt1_jax.data.rlds.checks import ActionScale
from rt1_jax.data.rlds.convert import DAMAGED, EpisodeConverter, Frames, OddEpisodeError
from rt1_jax.data.rlds.report import check_clipped
from rt1_jax.data.rlds.source import RLDSSource
from rt1_jax.data.rlds.stored_embeddings import stored_identity
from rt1_jax.data.rlds.tfrecords import Record, read_records
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.statistics import ActionMoments
from rt1_jax.data.windows import Window, pad_steps
from rt1_jax.language import SentenceEncoder

_BLOCK = 64
"""Episodes whose windows are shuffled with one another; they are held encoded."""
_LEAST = 100
"""Episodes seen before a share of damaged ones, or of clipped numbers, counts."""


class RLDSStream(grain.IterDataset[Window]):
    """An endless stream of windows as `WindowSource` gives them; iterators have a saved position.

    Args:
      dataset: what camera, instruction and actions are.
      source: the files.
      frames: steps a window.
      seed: fixes the order.
      image: format and size of the frames; others are resized.
      scale: "physical" or "rt1_x".
      encoder: embeds the instructions; None takes the stored embeddings.
      process_index, process_count: this host's share of the files, every `process_count`-th.
      max_damaged: the share of damaged episodes above which the stream ends in an error.
      max_clipped: the same for the share of an action's number beyond its bounds, in physical
        units. It is counted from where an iterator begins, or was set to.

    Raises:
      OXEError, DatasetError: description, files and scale do not fit, fewer files than processes,
        or no embeddings to be had.
    """

    def __init__(
        self,
        dataset: RLDSDataset,
        source: RLDSSource,
        *,
        frames: int,
        seed: int,
        image: Frames,
        scale: ActionScale = "physical",
        encoder: SentenceEncoder | None = None,
        process_index: int = 0,
        process_count: int = 1,
        max_damaged: float = 0.01,
        max_clipped: float = 0.05,
    ) -> None:
        super().__init__()
        if encoder is None and dataset.embedding is None:
            raise DatasetError(f"{dataset.name} holds no sentence embeddings: name an encoder")
        self.files = source.files[process_index::process_count]
        if not self.files:
            raise DatasetError(
                f"{source.directory} has {len(source.files)} files, too few for {process_count} "
                "processes: import it"
            )
        self.frames, self.seed, self.image = frames, seed, image
        self.convert = EpisodeConverter(dataset, source, scale, image)
        self.encoder, self.max_damaged, self.max_clipped = encoder, max_damaged, max_clipped
        self.identity = stored_identity(dataset, source) if encoder is None else encoder.identity
        self.name, self.physical_spec = dataset.name, dataset.action_spec

    @property
    def action_spec(self) -> ActionSpec:
        return self.convert.action_spec

    def __iter__(self) -> grain.DatasetIterator[Window]:
        return _Windows(self)


class _Windows(grain.DatasetIterator[Window]):
    """Position: where the block of episodes begins, and how many windows of it were given."""

    def __init__(self, stream: RLDSStream) -> None:
        super().__init__()
        self._stream = stream
        self._vectors: dict[str, np.ndarray] = {}
        self.set_state(
            {"epoch": 0, "file": 0, "record": 0, "given": 0, "seen": 0, "damaged": 0, "used": 0}
        )

    def __next__(self) -> Window:
        while self._given >= len(self._order):
            self._read_block()
        number, start = self._order[self._given]
        self._given += 1
        episode, embedding = self._episodes[number]
        return self._window(episode, embedding, start)

    def get_state(self) -> dict[str, Any]:
        """A few numbers; setting them reads the block again."""
        return {**self._begin, "given": self._given}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position of `get_state`."""
        self._next = {key: int(value) for key, value in state.items() if key != "given"}
        # Not of the position: it would grow by sketches that only a message needs.
        self._moments, self._counted = ActionMoments(self._stream.physical_spec), 0
        self._told: dict[str, str] = {}
        self._records = self._read_epoch()
        self._read_block()
        self._given = int(state["given"])

    def _read_epoch(self) -> Iterator[tuple[str, Record]]:
        """The records from the next position on, to the end of its epoch."""
        files = self._stream.files
        rng = np.random.default_rng([self._stream.seed, self._next["epoch"]])
        order = rng.permutation(len(files))
        for place in range(self._next["file"], len(files)):
            skip = self._next["record"] if place == self._next["file"] else 0
            for record in read_records(files[order[place]], skip):
                self._next |= {"file": place, "record": record.number + 1}
                yield files[order[place]], record

    def _read_block(self) -> None:
        """The next episodes that can be used, and an order of their windows."""
        self._begin, self._given = dict(self._next), 0
        self._episodes: list[tuple[EncodedEpisode, np.ndarray | None]] = []
        while not self._episodes:
            read = 0
            for path, record in itertools.islice(self._records, _BLOCK):
                read += 1
                self._episodes += self._convert(path, record)
            self._next["used"] += len(self._episodes)
            if not read:
                if not self._next["used"]:
                    raise DatasetError(f"no episode of {list(self._stream.files[:3])} can be used")
                self._tell_clipped()
                self._next |= {"epoch": self._next["epoch"] + 1, "file": 0, "record": 0}
                self._records = self._read_epoch()
                self._begin = dict(self._next)
        self._check_clipped()
        frames = self._stream.frames
        order = [
            (number, start)
            for number, (episode, _) in enumerate(self._episodes)
            for start in range(max(len(episode) - frames + 1, 1))
        ]
        place = [self._begin[key] for key in ("epoch", "file", "record")]
        rng = np.random.default_rng([self._stream.seed, *place])
        self._order = [order[i] for i in rng.permutation(len(order))]

    def _convert(
        self, path: str, record: Record
    ) -> Iterator[tuple[EncodedEpisode, np.ndarray | None]]:
        """The record's episode, or none if it is to be left out."""
        self._next["seen"] += 1
        try:
            if record.data is None:
                raise OddEpisodeError("corrupt record", record.problem)
            episode, embedding, physical = self._stream.convert(record.data)
            self._moments.add(physical)
            self._counted += 1
            yield episode, embedding
        except OddEpisodeError as error:
            if error.reason in DAMAGED:
                self._count_damage(path, record.number, error)

    def _count_damage(self, path: str, number: int, error: Exception) -> None:
        self._next["damaged"] += 1
        damaged, seen, limit = self._next["damaged"], self._next["seen"], self._stream.max_damaged
        print(f"{path}, record {number}, is left out: {error}", file=sys.stderr)
        if seen >= _LEAST and damaged > limit * seen:
            raise DatasetError(
                f"{damaged} of {seen} episodes are damaged, more than {limit:.1%} of them; the "
                f"last is {path}, record {number}: {error}"
            )

    def _check_clipped(self) -> None:
        """Once a block: the moments' sketches of quantiles cost ten times as much one by one."""
        if self._counted < _LEAST:
            return
        limit = self._stream.max_clipped
        check_clipped(
            self._moments.clipped_share(),
            f"max_clipped={limit:g} ({self._counted} episodes)",
            limit,
            "Stream with a description of your own (data.rlds.registry), or import with a higher "
            "--max_clipped",
        )
        if not self._told:
            self._tell_clipped()

    def _tell_clipped(self) -> None:
        """Says what is clipped, as far as that is news."""
        for name, share in self._moments.clipped_share().items():
            text = f"{share:.2%} of {name}"
            if share > 0 and self._told.get(name) != text:
                self._told[name] = text
                print(
                    f"{self._stream.name}: {text} beyond the bounds, clipped when tokenised "
                    f"({self._counted} episodes)",
                    file=sys.stderr,
                )

    def _window(self, episode: EncodedEpisode, embedding: np.ndarray | None, start: int) -> Window:
        frames = self._stream.frames
        stop = min(start + frames, len(episode))
        missing = frames - (stop - start)
        images = [decode_image(frame) for frame in episode.frames[start:stop]]
        images = [resize_frame(image, self._stream.image.image_size) for image in images]
        if self._stream.encoder is not None:
            embedding = self._embed(episode.instruction)
        return {
            "images": pad_steps(np.stack(images), missing),
            "embedding": np.asarray(embedding, np.float32),
            "actions": {
                name: pad_steps(np.asarray(value[start:stop], np.float32), missing)
                for name, value in episode.actions.items()
            },
            "mask": np.repeat(np.asarray([1, 0], np.float32), [stop - start, missing]),
        }

    def _embed(self, instruction: str) -> np.ndarray:
        encoder = self._stream.encoder
        if instruction not in self._vectors and encoder is not None:
            self._vectors[instruction] = encoder.embed([instruction])[0]
        return self._vectors[instruction]

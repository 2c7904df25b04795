"""What a run is trained on: one dataset, a mixture by weights, or RLDS files as they are."""

from __future__ import annotations

import dataclasses
import functools
import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.loader import Batch, make_loader, prefetch
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore
from rt1_jax.data.subset import choose_episodes, split_validation
from rt1_jax.data.windows import WindowSource
from rt1_jax.language import EmbeddingStatistics, EncoderIdentity, check_same_encoder


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Opened data.

    Attributes:
      action_spec, encoder, frame_rate, image_size: of all of it.
      source: how it was made, for the checkpoint's description.
      episodes: to train on.
      stream: (first batch) -> batches from there on, see `make_loader`.
      validation: {dataset: windows held out}.
      statistics: standardise the embeddings, or None to leave them as they are.
      order: JSON-able; what the order of the batches depends on.
      counted: whether a place in the stream is the number of batches before it, on any number of
        processes; else it is what the stream's iterator says, for each process.
    """

    action_spec: ActionSpec
    encoder: EncoderIdentity
    frame_rate: float
    image_size: tuple[int, int]
    source: Any
    episodes: int
    stream: Callable[[int], grain.IterDataset[Batch]]
    validation: dict[str, WindowSource]
    statistics: EmbeddingStatistics | None
    order: dict[str, Any]
    counted: bool = True

    def batches(
        self,
        put: Callable[[Batch], Batch],
        position: dict[str, Any] | None = None,
        step: int = 0,
        process: int = 0,
    ) -> Batches:
        """Batches from a saved position on, put on the device ahead of their use.

        Args:
          put: e.g. `jax.device_put`.
          position: of `Batches.position`, of all processes together; None for the beginning.
          step: steps that were taken before, for positions of older checkpoints.
          process: which of the processes this is.

        Raises:
          DatasetError: the position is of other data, or of another order of them.
        """
        first = 0
        if position is not None:
            self._check_order(position.get("order", {}))
            first = position.get("batches", step) if self.counted else 0
        iterator = iter(prefetch(self.stream(first), put))
        if position is not None and not self.counted:
            states = position["states"] if "states" in position else [position["state"]]
            if process >= len(states):
                raise DatasetError(
                    f"the checkpoint's position in the data is of {len(states)} processes, here "
                    "are more: RLDS files as they are can be gone on with on as many processes only"
                )
            iterator.set_state(states[process])
        return Batches(iterator, self, first)

    def _check_order(self, saved: dict[str, Any]) -> None:
        for key in sorted(saved.keys() & self.order.keys()):
            if saved[key] != self.order[key]:
                raise DatasetError(
                    f"the checkpoint's position in the data is for {key} {saved[key]}, here it "
                    f"is {self.order[key]}: it cannot be gone on from; give it the data and the "
                    "loader that it had, or start another run"
                )


class Batches:
    """An iterator of batches that knows its place."""

    def __init__(
        self, iterator: grain.DatasetIterator[Batch], data: TrainingData, first: int
    ) -> None:
        self._iterator, self._data, self._taken = iterator, data, first

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        batch = next(self._iterator)
        self._taken += 1
        return batch

    def position(self) -> dict[str, Any]:
        """Where it is, JSON-able, to be saved with a checkpoint."""
        place = (
            {"batches": self._taken}
            if self._data.counted
            else {"state": self._iterator.get_state()}
        )
        return {"order": self._data.order, **place}

    def close(self) -> None:
        """Ends its threads and worker processes."""
        self._iterator.close()


def open_training_data(
    data: dict[str, Any],
    loader: dict[str, Any],
    *,
    frames: int,
    embedding_size: int,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainingData:
    """Opens what a run's config names.

    Args:
      data: the config's group, with every key there is (`data_with_newer`): `directory`, or
        `mixture`, a tuple of (directory, weight), or `rlds`, a group of `builder_dir`, `dataset`
        and perhaps `actions`, `split`, `encoder`, `registry`.
      loader: `workers`, `threads`, `cache_bytes`.
      frames: steps a window.
      embedding_size: numbers of an embedding that the model takes.
      batch_size: windows (or chunks) a batch on this process.
      seed: of the order, and of which episodes are chosen.
      process_index, process_count: this host's share.

    Raises:
      DatasetError: a dataset is not there, or a mixture's do not fit together.
      EncoderMismatchError: a mixture's embeddings are of different encoders.
    """
    if data["rlds"]["builder_dir"]:
        from rt1_jax.data.rlds.streamed import open_stream

        return open_stream(
            data,
            loader,
            frames=frames,
            embedding_size=embedding_size,
            batch_size=batch_size,
            seed=seed,
            process_index=process_index,
            process_count=process_count,
        )
    entries = [(str(path), float(w)) for path, w in data["mixture"]] or [(data["directory"], 1.0)]
    if len({os.path.realpath(path) for path, _ in entries}) < len(entries):
        raise DatasetError(f"data.mixture names a dataset twice: {[path for path, _ in entries]}")
    cache = loader["cache_bytes"] // len(entries)
    stores = [StepStore.open(path, cache_bytes=cache) for path, _ in entries]
    size = tuple(data["image_size"]) if data["image_size"] else None
    if size and (len(size) != 2 or min(size) < 1):
        raise DatasetError(f"data.image_size is {size}, expected (height, width) or ()")
    _check_alike(stores, size)
    check_embedding_size(
        embedding_size, data["embedding_components"], stores[0].encoder, str(stores[0].directory)
    )
    parts, held_out = [], {}
    less = data["episodes"] > 0 or data["tasks"] < 1
    for store, name in zip(stores, _names(stores), strict=True):
        part, validation = split_validation(store, data["validation_episodes"])
        if less:
            chosen = choose_episodes(
                store,
                data["validation_episodes"],
                episodes=data["episodes"],
                tasks=data["tasks"],
                seed=seed,
            )
            part = store.select(chosen)
        parts.append(part)
        if validation is not None:
            held_out[name] = WindowSource(validation, frames, image_size=size)
    stream = functools.partial(
        make_loader,
        parts,
        frames=frames,
        batch_size=batch_size,
        seed=seed,
        weights=[weight for _, weight in entries] if data["mixture"] else None,
        chunk=data["chunk"],
        workers=loader["workers"],
        threads=loader["threads"],
        travel_repeats=data["travel_repeats"],
        image_size=size,
        process_index=process_index,
        process_count=process_count,
    )
    stream(first_batch=0)  # what does not fit is said now
    first = stores[0]
    sources = [store.description["source"] for store in stores]
    return TrainingData(
        first.action_spec,
        first.encoder,
        first.description["frame_rate"],
        size or first.image_size,
        sources[0]
        if len(stores) == 1
        else [{"weight": w, **s} for (_, w), s in zip(entries, sources, strict=True)],
        sum(len(part) for part in parts),
        lambda batch: stream(first_batch=batch),
        held_out,
        _statistics(parts, data["embedding_components"], pad=less),
        {
            "data": [_checksum(part) for part in parts],
            "weights": [weight for _, weight in entries],
            "frames": frames,
            "chunk": data["chunk"],
            "travel_repeats": data["travel_repeats"],
            "batch_size": batch_size * process_count,
            "seed": seed,
        },
    )


def check_embedding_size(
    expected: int, components: int, encoder: EncoderIdentity, where: str
) -> None:
    """Raises DatasetError unless the model takes what it will be given."""
    given = components or encoder.dimensions
    if expected != given:
        raise DatasetError(
            f"model.embedding_size is {expected}, but the model will be given {given} numbers a "
            f"sentence (data.embedding_components is {components}, the encoder of {where} gives "
            f"{encoder.dimensions}): set them alike"
        )


def _names(stores: Sequence[StepStore]) -> list[str]:
    """The directories' last parts; whole where two have the same."""
    short = [store.directory.name for store in stores]
    return [
        name if short.count(name) == 1 else str(store.directory)
        for name, store in zip(short, stores, strict=True)
    ]


def _checksum(part: StepStore) -> str:
    """Of which episodes there are, in what order: the lengths and instructions of all."""
    columns = np.stack([part.lengths, part.instruction_ids]).astype("<i8")
    return f"{len(part)} episodes, {zlib.crc32(columns.tobytes()):08x}"


def _check_alike(stores: Sequence[StepStore], size: tuple[int, ...] | None) -> None:
    """A mixture's datasets must mean the same by their numbers."""
    first = stores[0]
    for other in stores[1:]:
        names = f"{first.directory} and {other.directory}"
        if other.action_spec != first.action_spec:
            raise DatasetError(
                f"{names} have the action specs {first.action_spec.name!r} and "
                f"{other.action_spec.name!r}, whose numbers differ in meaning: import both with "
                "--actions=rt1_x"
            )
        check_same_encoder(first.encoder, other.encoder)
        if size is None and other.image_size != first.image_size:
            raise DatasetError(
                f"{names} have frames of {list(first.image_size)} and {list(other.image_size)}: "
                "set data.image_size to one size for all, or import with --image_size"
            )


def _statistics(
    parts: Sequence[StepStore], components: int, pad: bool
) -> EmbeddingStatistics | None:
    """Of the training sentences of all datasets, each counted as often as it is told."""
    if not components:
        return None
    vectors, sentences, counts = [], [], []
    for part in parts:
        told, number = np.unique(part.instruction_ids, return_counts=True)
        vectors.append(np.asarray(part.embeddings[told]))
        sentences += [part.instructions[row] for row in told]
        counts.append(number)
    # Little data has few words: the components that there are not are zeros then.
    return EmbeddingStatistics.of(
        np.concatenate(vectors), sentences, components, np.concatenate(counts), pad=pad
    )

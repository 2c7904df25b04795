"""Batches of training windows from dataset directories, by Grain.

Every window of every episode appears once an epoch (`travel_repeats` times if the hand travels in
its last step), in an order fixed by the seed. There is no shuffle buffer, since any window can be
read at random. The iterator's position is a small dict (`get_state`/`set_state`), saved with each
checkpoint, so that a resumed run sees exactly the batches that it would have seen.

Of each batch every process reads a block of rows: the batches are the same for any number of
processes, and so is the place of a run in them, which is the number of batches taken.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore
from rt1_jax.data.windows import ChunkSource, Window, WindowSource

Batch = dict[str, Any]

_EPOCHS = 1_000_000
"""As good as endless; what is endless Grain cannot divide into batches of one."""
_SEED_STEP = 7919
"""Between the seeds of a mixture's datasets, so that equal ones are not in step."""


def make_loader(
    stores: StepStore | Sequence[StepStore],
    *,
    frames: int,
    batch_size: int,
    seed: int,
    weights: Sequence[float] | None = None,
    chunk: int = 1,
    workers: int = 0,
    threads: int = 2,
    travel_repeats: int = 1,
    image_size: tuple[int, int] | None = None,
    process_index: int = 0,
    process_count: int = 1,
    first_batch: int = 0,
) -> grain.IterDataset[Batch]:
    """An all but endless stream of shuffled batches of windows.

    Args:
      stores: an open dataset, or those of a mixture.
      frames: steps a window.
      batch_size: windows (or chunks) a batch on this process.
      seed: fixes the order; each epoch has another.
      weights: how often windows of each dataset are drawn, in proportion; by their numbers of
        windows if None, so that an epoch of all takes as long for each.
      chunk: windows that share their frames, see `ChunkSource`; 1 for windows one by one.
      workers: worker processes that read and decode; 0 does it in threads of this one. The stream
        is the same for any number; a saved position is for the number that it was saved with.
      threads: reading threads (of each worker).
      travel_repeats: how often windows in which the hand travels appear; see `WindowSource`.
      image_size: (height, width) of all frames, for a mixture of several sizes.
      process_index, process_count: this host's rows of each batch, one block after another.
      first_batch: where to begin: batches that were taken before.

    Returns:
      an iterable; each iterator has `get_state()` and `set_state()`.

    Raises:
      DatasetError: fewer windows than one batch, or weights that do not fit.
    """
    parts = [stores] if isinstance(stores, StepStore) else list(stores)
    sources = [_source(store, frames, chunk, travel_repeats, image_size) for store in parts]
    if weights is None:
        weights = [float(len(source)) for source in sources]
    _check_weights(weights, parts)
    shuffled = [
        grain.MapDataset.source(source).seed((seed + _SEED_STEP * number) % 2**32).shuffle()
        for number, source in enumerate(sources)
    ]
    total, rows = sum(len(order) for order in shuffled), batch_size * process_count
    if total < rows:
        directories = ", ".join(str(store.directory) for store in parts)
        unit = f"windows of {frames} frames" if chunk == 1 else f"chunks of {chunk} windows"
        raise DatasetError(
            f"{directories} gives {total} {unit}, fewer than one batch of {rows}: lower batch_size "
            "or make more episodes"
        )
    endless = [order.repeat(_EPOCHS) for order in shuffled]
    mixed = endless[0] if len(endless) == 1 else grain.MapDataset.mix(endless, list(weights))
    if process_count > 1:
        mixed = _Rows(mixed, batch_size, process_index, process_count)
    # A chunk may be a batch by itself: megabytes that need not be copied.
    batches = mixed.batch(batch_size, batch_fn=_batch_of_one if batch_size == 1 else None)
    if first_batch:
        batches = batches[first_batch:]
    stream = batches.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * max(threads, 1))
    )
    return in_workers(stream, workers)


def _batch_of_one(rows: Sequence[Any]) -> Any:
    """Rows [...] -> [1, ...], the same memory."""
    (row,) = rows
    if isinstance(row, dict):
        return {key: _batch_of_one([value]) for key, value in row.items()}
    return np.asarray(row)[None]


class _Rows(grain.MapDataset[Window]):
    """Of every batch of `rows * processes` items, the block of one process."""

    def __init__(
        self, parent: grain.MapDataset[Window], rows: int, process: int, processes: int
    ) -> None:
        super().__init__(parent)
        self._rows, self._process, self._processes = rows, process, processes

    def __len__(self) -> int:
        return len(self._parent) // (self._rows * self._processes) * self._rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, row = divmod(index, self._rows)
        return self._parent[(batch * self._processes + self._process) * self._rows + row]


def in_workers(stream: grain.IterDataset[Any], workers: int) -> grain.IterDataset[Any]:
    """The stream made in worker processes, each a share of its batches; 0 leaves it as it is."""
    if not workers:
        return stream
    # Grain's workers ask for absl flags, which nobody has parsed in a notebook or a test.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return stream.mp_prefetch(
        grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4),
        worker_init_fn=_as_long_as_the_parent,
    )


def prefetch(
    stream: grain.IterDataset[Batch], put: Callable[[Batch], Batch], batches: int = 2
) -> grain.IterDataset[Batch]:
    """Puts batches on the device ahead of their use, in a thread.

    A position saved is that of the batches taken, not of those fetched ahead.

    Args:
      stream: of `make_loader`.
      put: e.g. `jax.device_put`.
      batches: how many are kept ready.
    """
    return grain.experimental.ThreadPrefetchIterDataset(
        stream.map(put), prefetch_buffer_size=batches
    )


def _as_long_as_the_parent(worker: int, workers: int) -> None:
    """In a worker process: it ends when its parent closes it or is gone, and not before.

    Schedulers and Ctrl-C signal all processes of a job, and the parent still needs batches until it
    has saved.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, name="parent", daemon=True).start()


def _source(
    store: StepStore,
    frames: int,
    chunk: int,
    travel_repeats: int,
    image_size: tuple[int, int] | None,
) -> WindowSource | ChunkSource:
    if chunk == 1:
        return WindowSource(store, frames, travel_repeats, image_size)
    if travel_repeats > 1:
        raise DatasetError(
            "data.travel_repeats is for windows one by one: set it to 1, or data.chunk to 1"
        )
    return ChunkSource(store, frames, chunk, image_size)


def _check_weights(weights: Sequence[float], parts: Sequence[StepStore]) -> None:
    if len(weights) != len(parts):
        raise DatasetError(f"{len(weights)} weights for {len(parts)} datasets: expected one each")
    for weight, store in zip(weights, parts, strict=True):
        if not (np.isfinite(weight) and weight > 0):
            raise DatasetError(
                f"the weight of {store.directory} is {weight}, expected a positive number; leave a "
                "dataset out to not use it"
            )


__all__ = ["Batch", "ChunkSource", "Window", "WindowSource", "make_loader", "prefetch"]

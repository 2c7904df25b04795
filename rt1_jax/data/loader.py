"""Batches of training windows from a dataset directory, by Grain.

A window is `frames` consecutive steps of one episode. Every window of every episode appears exactly
once an epoch, in an order fixed by the seed; there is no shuffle buffer, since any window can be
read at random. The iterator's position is a small dict (`get_state`/`set_state`), saved with each
checkpoint, so that a resumed run sees exactly the batches that it would have seen.
"""

from __future__ import annotations

from typing import Any

import grain
import numpy as np

from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore

Batch = dict[str, Any]


class WindowSource:
    """Random access to all windows of a dataset.

    Window w is {
      "images": uint8 [frames, h, w, 3],
      "embedding": float32 [dimensions], the instruction's,
      "actions": {field: float32 [frames, size]},
      "mask": float32 [frames], 0 where an episode shorter than `frames` was padded at its end.
    }
    """

    def __init__(self, store: StepStore, frames: int) -> None:
        if frames < 1:
            raise DatasetError(f"a window needs at least one frame, got {frames}")
        self._store = store
        self._frames = frames
        counts = np.maximum(store.lengths - frames + 1, 1)
        self._episode_end = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._episode_end[-1])

    def __getitem__(self, index: int) -> Batch:
        episode = int(np.searchsorted(self._episode_end, index, side="right"))
        start = int(index - (self._episode_end[episode - 1] if episode else 0))
        steps = min(self._frames, int(self._store.lengths[episode]) - start)
        window = self._store.read(episode, start, steps)
        missing = self._frames - steps
        return {
            "images": _pad(window.images, missing),
            "embedding": self._store.embedding(episode),
            "actions": {name: _pad(value, missing) for name, value in window.actions.items()},
            "mask": np.concatenate([np.ones(steps, np.float32), np.zeros(missing, np.float32)]),
        }

    def __repr__(self) -> str:
        # Grain compares this with a saved position, so that a position in one dataset is not used
        # in another.
        return f"WindowSource(windows={len(self)}, frames={self._frames})"


def make_loader(
    store: StepStore,
    *,
    frames: int,
    batch_size: int,
    seed: int,
    workers: int = 0,
    threads: int = 2,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset[Batch]:
    """An endless stream of shuffled batches of windows.

    Args:
      store: the open dataset.
      frames: steps a window.
      batch_size: windows a batch on this process.
      seed: fixes the order; each epoch has another.
      workers: worker processes that read and decode; 0 does it in threads of this one.
      threads: reading threads (of each worker).
      process_index, process_count: this host's share of the windows, every `process_count`-th.

    Returns:
      an iterable; each iterator has `get_state()` and `set_state()`.

    Raises:
      DatasetError: fewer windows than one batch.
    """
    windows = grain.MapDataset.source(WindowSource(store, frames)).seed(seed).shuffle()
    mine = windows[process_index::process_count]
    if len(mine) < batch_size:
        raise DatasetError(
            f"{store.directory} gives {len(mine)} windows of {frames} frames to this process, "
            f"fewer than one batch of {batch_size}: lower batch_size or make more episodes"
        )
    batches = mine.repeat().batch(batch_size)
    stream = batches.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * max(threads, 1))
    )
    if workers:
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
        )
    return stream


def _pad(x: np.ndarray, missing: int) -> np.ndarray:
    """Repeats the last step `missing` times: [t, ...] -> [t + missing, ...]."""
    return np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x

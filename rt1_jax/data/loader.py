"""Batches of training windows from a dataset directory, by Grain.

A window is `frames` consecutive steps of one episode. Every window of every episode appears once an
epoch, or `travel_repeats` times if the hand travels in its last step, in an order fixed by the
seed; there is no shuffle buffer, since any window can be read at random. The iterator's position is
a small dict (`get_state`/`set_state`), saved with each checkpoint, so that a resumed run sees
exactly the batches that it would have seen.
"""

from __future__ import annotations

from typing import Any

import grain
import numpy as np

from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore

Batch = dict[str, Any]

_EPOCHS = 1_000_000
"""As good as endless; what is endless Grain cannot divide into batches of one."""
_TRAVELS = 0.5
"""The hand travels in a step if it moves so much of its bound or more along x or y."""


class WindowSource:
    """Random access to all windows of a dataset.

    Window w is {
      "images": uint8 [frames, h, w, 3],
      "embedding": float32 [dimensions], the instruction's,
      "actions": {field: float32 [frames, size]},
      "mask": float32 [frames], 0 where an episode shorter than `frames` was padded at its end.
    }

    Where the hand travels is where the instruction decides; the rest of an episode, going down,
    closing, lifting, can be told from the frame. `travel_repeats` above 1 shows the former more
    often.

    Raises:
      DatasetError: no frames or repeats, or no `world_vector` to tell travel by.
    """

    def __init__(self, store: StepStore, frames: int, travel_repeats: int = 1) -> None:
        if frames < 1 or travel_repeats < 1:
            raise DatasetError(
                f"a window needs at least one frame, got {frames}, and one appearance an epoch, "
                f"got travel_repeats {travel_repeats}"
            )
        self._store = store
        self._frames = frames
        self._travel_repeats = travel_repeats
        counts = np.maximum(store.lengths - frames + 1, 1)
        self._episode_end = np.cumsum(counts)
        # The window of each index, where that is not simply the index.
        self._order: np.ndarray | None = None
        if travel_repeats > 1:
            repeats = np.where(_travels(store, frames), travel_repeats, 1)
            self._order = np.repeat(np.arange(self._episode_end[-1]), repeats)

    def __len__(self) -> int:
        return int(self._episode_end[-1]) if self._order is None else len(self._order)

    def __getitem__(self, index: int) -> Batch:
        number = index if self._order is None else int(self._order[index])
        episode = int(np.searchsorted(self._episode_end, number, side="right"))
        start = int(number - (self._episode_end[episode - 1] if episode else 0))
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
        repeats = f", travel_repeats={self._travel_repeats}" if self._travel_repeats > 1 else ""
        return f"WindowSource(windows={len(self)}, frames={self._frames}{repeats})"


def make_loader(
    store: StepStore,
    *,
    frames: int,
    batch_size: int,
    seed: int,
    workers: int = 0,
    threads: int = 2,
    travel_repeats: int = 1,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset[Batch]:
    """An all but endless stream of shuffled batches of windows.

    Args:
      store: the open dataset.
      frames: steps a window.
      batch_size: windows a batch on this process.
      seed: fixes the order; each epoch has another.
      workers: worker processes that read and decode; 0 does it in threads of this one.
      threads: reading threads (of each worker).
      travel_repeats: how often windows in which the hand travels appear; see `WindowSource`.
      process_index, process_count: this host's share of the windows, every `process_count`-th.

    Returns:
      an iterable; each iterator has `get_state()` and `set_state()`.

    Raises:
      DatasetError: fewer windows than one batch.
    """
    source = WindowSource(store, frames, travel_repeats)
    windows = grain.MapDataset.source(source).seed(seed).shuffle()
    mine = windows[process_index::process_count]
    if len(mine) < batch_size:
        raise DatasetError(
            f"{store.directory} gives {len(mine)} windows of {frames} frames to this process, "
            f"fewer than one batch of {batch_size}: lower batch_size or make more episodes"
        )
    batches = mine.repeat(_EPOCHS).batch(batch_size)
    stream = batches.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * max(threads, 1))
    )
    if workers:
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
        )
    return stream


def _travels(store: StepStore, frames: int) -> np.ndarray:
    """Whether the hand travels in each window's last step: bool [windows]."""
    fields = {field.name: field for field in store.action_spec.fields}
    if "world_vector" not in fields:
        raise DatasetError(
            f"{store.directory}: data.travel_repeats needs a world_vector among the actions, there "
            f"are {sorted(fields)}; set it to 1"
        )
    bound = np.asarray(fields["world_vector"].high[:2], np.float32)
    moves = np.abs(store.all_actions("world_vector")[:, :2])  # [steps, 2]
    travels = (moves >= _TRAVELS * bound).any(-1)
    first = np.cumsum(store.lengths) - store.lengths
    lasts = [
        start + np.arange(min(frames, length) - 1, length)
        for start, length in zip(first, store.lengths, strict=True)
    ]
    return travels[np.concatenate(lasts)]


def _pad(x: np.ndarray, missing: int) -> np.ndarray:
    """Repeats the last step `missing` times: [t, ...] -> [t + missing, ...]."""
    return np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x

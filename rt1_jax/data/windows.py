"""Random access to a dataset's training windows, one by one or in chunks that share frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from rt1_jax.data.resize import resize_frame
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore

Window = dict[str, Any]

_TRAVELS = 0.5
"""The hand travels in a step if it moves so much of its bound or more along x or y."""


class WindowSource:
    """Random access to all windows of a dataset.

    A window is `frames` consecutive steps of one episode, and lies inside of it: as in a rollout,
    where the history grows from the first frame, its steps see 1 to `frames` frames. Window w is {
      "images": uint8 [frames, h, w, 3],
      "embedding": float32 [dimensions], the instruction's,
      "actions": {field: float32 [frames, size]},
      "mask": float32 [frames], 0 where an episode shorter than `frames` was padded at its end.
    }

    Where the hand travels is where the instruction decides; the rest of an episode, going down,
    closing, lifting, can be told from the frame. `travel_repeats` above 1 shows the former more
    often, and reads all actions at the start to find out.

    Args:
      store: the open dataset.
      frames: steps a window.
      travel_repeats: how often windows in which the hand travels appear.
      image_size: (height, width) that frames of another size are resized to.

    Raises:
      DatasetError: no frames or repeats, or no `world_vector` to tell travel by.
    """

    def __init__(
        self,
        store: StepStore,
        frames: int,
        travel_repeats: int = 1,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        if frames < 1 or travel_repeats < 1:
            raise DatasetError(
                f"a window needs at least one frame, got {frames}, and one appearance an epoch, "
                f"got travel_repeats {travel_repeats}"
            )
        self._store = store
        self._frames = frames
        self._travel_repeats = travel_repeats
        self._size = image_size or store.image_size
        counts = np.maximum(store.lengths - frames + 1, 1)
        self._episode_end = np.cumsum(counts)
        # The window of each index, where that is not simply the index.
        self._order: np.ndarray | None = None
        if travel_repeats > 1:
            repeats = np.where(_travels(store, frames), travel_repeats, 1)
            self._order = np.repeat(np.arange(self._episode_end[-1]), repeats)

    def __len__(self) -> int:
        return int(self._episode_end[-1]) if self._order is None else len(self._order)

    def __getitem__(self, index: int) -> Window:
        number = index if self._order is None else int(self._order[index])
        episode, start = _locate(self._episode_end, number)
        return _read(self._store, episode, start, self._frames, self._size)

    def __repr__(self) -> str:
        # A saved position holds this, so that it is not used in other data.
        repeats = f", travel_repeats={self._travel_repeats}" if self._travel_repeats > 1 else ""
        return f"WindowSource(windows={len(self)}, frames={self._frames}{repeats})"


class ChunkSource:
    """Random access to chunks: up to `windows` windows that begin one step after another.

    Their steps overlap, so a chunk of `windows + frames - 1` steps holds them all, and each frame
    is read, decoded and encoded by the model once rather than `frames` times. Every window of the
    dataset is in one chunk. Chunk c is as a window of so many steps, and {
      "windows": float32 [windows], 0 where an episode's last chunk has none.
    }

    Args:
      store: the open dataset.
      frames: steps a window.
      windows: windows a chunk.
      image_size: as for `WindowSource`.

    Raises:
      DatasetError: no frames or windows.
    """

    def __init__(
        self,
        store: StepStore,
        frames: int,
        windows: int,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        if frames < 1 or windows < 1:
            raise DatasetError(
                f"a chunk of {windows} windows of {frames} frames: expected one each"
            )
        self._store, self._frames, self._windows = store, frames, windows
        self._size = image_size or store.image_size
        self._counts = np.maximum(store.lengths - frames + 1, 1)  # windows of each episode
        self._episode_end = np.cumsum(-(-self._counts // windows))

    def __len__(self) -> int:
        return int(self._episode_end[-1])

    def __getitem__(self, index: int) -> Window:
        episode, chunk = _locate(self._episode_end, index)
        start = chunk * self._windows
        steps = self._windows + self._frames - 1
        found = _read(self._store, episode, start, steps, self._size)
        there = start + np.arange(self._windows) < self._counts[episode]
        return {**found, "windows": there.astype(np.float32)}

    def __repr__(self) -> str:
        return f"ChunkSource(chunks={len(self)}, windows={self._windows}, frames={self._frames})"


def _locate(episode_end: np.ndarray, number: int) -> tuple[int, int]:
    """The episode of an item, and the item's place in it."""
    episode = int(np.searchsorted(episode_end, number, side="right"))
    return episode, int(number - (episode_end[episode - 1] if episode else 0))


def _read(store: StepStore, episode: int, start: int, wanted: int, size: tuple[int, int]) -> Window:
    steps = min(wanted, int(store.lengths[episode]) - start)
    window = store.read(episode, start, steps)
    images = window.images
    if images.shape[1:3] != tuple(size):
        images = np.stack([resize_frame(image, size) for image in images])
    missing = wanted - steps
    return {
        "images": pad_steps(images, missing),
        "embedding": np.array(store.embedding(episode), np.float32),
        "actions": {name: pad_steps(value, missing) for name, value in window.actions.items()},
        "mask": np.concatenate([np.ones(steps, np.float32), np.zeros(missing, np.float32)]),
    }


def pad_steps(x: np.ndarray, missing: int) -> np.ndarray:
    """Repeats the last step `missing` times: [t, ...] -> [t + missing, ...]."""
    return np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x


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

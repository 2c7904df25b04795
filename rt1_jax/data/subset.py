"""Parts of a dataset: what is held out, and less data or fewer tasks to learn from."""

from __future__ import annotations

import json

import numpy as np

from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore


def split_validation(store: StepStore, episodes: int) -> tuple[StepStore, StepStore | None]:
    """Holds the last episodes out.

    The generator's order is random, and so is TFDS's for most datasets; LeRobot's is that of
    recording.

    Returns:
      the rest, and what is held out (None for 0 episodes).

    Raises:
      DatasetError: nothing would be left.
    """
    cut = _cut(store, episodes)
    return store.select(slice(0, cut)), store.select(slice(cut, None)) if episodes else None


def choose_episodes(
    store: StepStore, validation_episodes: int, *, episodes: int, tasks: float, seed: int
) -> np.ndarray:
    """Numbers of the episodes to train on, in the dataset's order: int64 [n].

    Sets are nested: for one seed, fewer episodes or tasks are a part of more. A task is what the
    episodes' metadata say ("task"), and where they do not, the instruction.

    Args:
      store: the whole dataset.
      validation_episodes: how many at its end are held out.
      episodes: how many to choose; 0 for all there are.
      tasks: the share of the tasks to keep, in (0, 1].
      seed: which ones.

    Raises:
      DatasetError: there are not as many, or the share is none.
    """
    if not 0 < tasks <= 1:
        raise DatasetError(f"data.tasks is {tasks}, expected a share of the tasks in (0, 1]")
    order = np.random.default_rng(seed).permutation(_cut(store, validation_episodes))
    if tasks < 1:
        names = _task_names(store)
        distinct = sorted(set(names))
        shuffled = np.random.default_rng(seed).permutation(len(distinct))
        kept = {distinct[i] for i in shuffled[: max(1, round(tasks * len(distinct)))]}
        order = np.asarray([number for number in order if names[number] in kept], np.int64)
        if not len(order):
            raise DatasetError(
                f"data.tasks is {tasks}: of the {len(kept)} tasks that are kept, {store.directory} "
                f"has episodes among the {validation_episodes} held out only; keep more tasks, or "
                "hold fewer episodes out"
            )
    if episodes > len(order):
        raise DatasetError(
            f"data.episodes is {episodes}, but {store.directory} has only {len(order)} episodes to "
            f"choose from ({validation_episodes} held out, {tasks:.0%} of the tasks)"
        )
    return np.sort(order[: episodes or len(order)])


def _cut(store: StepStore, validation_episodes: int) -> int:
    if not 0 <= validation_episodes < len(store):
        raise DatasetError(
            f"data.validation_episodes is {validation_episodes}, but {store.directory} has only "
            f"{len(store)} episodes: expected 0 to {len(store) - 1}, which are held out of each "
            "dataset"
        )
    return len(store) - validation_episodes


def _task_names(store: StepStore) -> list[str]:
    """Every episode's task, in order."""
    names = []
    for metadata, row in zip(store.metadata(), store.instruction_ids, strict=True):
        task = metadata.get("task")
        names.append(json.dumps(task, sort_keys=True) if task else store.instructions[row])
    return names

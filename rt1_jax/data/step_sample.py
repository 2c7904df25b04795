"""Actions of randomly chosen steps, whatever the dataset's size."""

from __future__ import annotations

import numpy as np

from rt1_jax.data.episode import EpisodeError
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore

_AT_ONCE = 256
"""Records read at once: with frames of 100 kB, 25 MB."""


def sample_actions(store: StepStore, steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The actions of distinct steps drawn at random, each as likely as any other.

    Memory is that of the sample and of one open shard; no frame is decoded.

    Args:
      store: a whole dataset, as opened.
      steps: how many; all where there are no more.
      seed: of the draw.

    Returns:
      {field: float32 [n, size]}, in the order of the dataset.

    Raises:
      DatasetError: a record that cannot be read; the shard is named.
    """
    # The store keeps to itself where an episode lies: the index has it.
    with np.load(store.directory / "episodes.npz") as index:
        held = np.bincount(index["shard"], weights=index["length"]).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(held)])
    total = int(starts[-1])
    if steps >= total:
        chosen = np.arange(total)
    else:
        chosen = np.sort(np.random.default_rng(seed).choice(total, steps, replace=False))
    found: dict[str, list[np.ndarray]] = {name: [] for name in store.action_spec.field_names}
    ends = np.searchsorted(chosen, starts)
    for shard, name in enumerate(store.description["shards"][: len(held)]):
        rows = chosen[ends[shard] : ends[shard + 1]] - starts[shard]
        if not len(rows):
            continue
        reader = store.open_shard(shard)
        try:
            for first in range(0, len(rows), _AT_ONCE):
                for action in reader.read_actions(rows[first : first + _AT_ONCE].tolist()):
                    for field, values in found.items():
                        values.append(action[field])
        except (EpisodeError, KeyError, OSError, RuntimeError, ValueError, IndexError) as error:
            raise DatasetError(
                f"{store.directory / name}: a step cannot be read ({error}); the file is damaged: "
                "make or copy it again"
            ) from error
        finally:
            reader.close()
    return {name: np.stack(values) for name, values in found.items()}

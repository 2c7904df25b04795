"""Finished shards become a dataset directory (`rt1_jax.data.store`)."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.shards import VERSION, DatasetError, read_shard_index
from rt1_jax.data.statistics import ActionMoments
from rt1_jax.files import write_atomically
from rt1_jax.language import SentenceEncoder

EMBEDDINGS = "embeddings.npy"


def finish_dataset(
    directory: str | os.PathLike[str],
    shards: Sequence[str | os.PathLike[str]],
    *,
    action_spec: ActionSpec,
    frame_rate: float,
    source: dict[str, Any],
    encoder: SentenceEncoder,
) -> None:
    """Turns finished shards into a dataset: index, embeddings, statistics, `dataset.json` last.

    A `dataset.json` that is there already is taken away first, so that a dataset which is finished
    anew, with another encoder, never passes for whole with half of its files replaced.

    Args:
      directory: where the shards are.
      shards: their paths, in the order of the dataset.
      action_spec: what the actions mean, with bounds.
      frame_rate: steps a second.
      source: how the data was made, for people: command, seed, numbers kept and dropped.
      encoder: embeds the distinct instructions; its identity is recorded.

    Raises:
      DatasetError: a shard is missing or empty of episodes altogether, or shards differ in size.
    """
    root = pathlib.Path(directory)
    indices = [read_shard_index(pathlib.Path(shard)) for shard in shards]
    sizes = {tuple(index["image_size"]) for index in indices if index["image_size"]}
    if len(sizes) != 1:
        raise DatasetError(
            f"{root}: expected shards with frames of one size, found {sorted(sizes)}"
        )
    formats = {index["image_format"] for index in indices}
    if len(formats) != 1:
        raise DatasetError(f"{root}: shards hold frames of several formats, {sorted(formats)}")
    instruction_ids: dict[str, int] = {}
    columns: dict[str, list[int]] = {
        "shard": [],
        "start": [],
        "length": [],
        "instruction": [],
    }
    moments = ActionMoments()
    for number, index in enumerate(indices):
        start = 0
        for episode in index["episodes"]:
            text = episode["instruction"]
            columns["shard"].append(number)
            columns["start"].append(start)
            columns["length"].append(episode["length"])
            columns["instruction"].append(instruction_ids.setdefault(text, len(instruction_ids)))
            start += episode["length"]
        moments.merge(ActionMoments.from_json(index["action_moments"]))
    instructions = list(instruction_ids)
    embeddings = encoder.embed(instructions)  # may fail, while nothing has been touched yet

    def save_npz(file: Any) -> None:
        arrays: dict[str, Any] = {k: np.asarray(v, np.int64) for k, v in columns.items()}
        np.savez(file, **arrays)

    (root / "dataset.json").unlink(missing_ok=True)
    write_atomically(root / "episodes.npz", save_npz)
    write_atomically(root / EMBEDDINGS, lambda file: np.save(file, embeddings))
    write_atomically(root / "instructions.json", json.dumps(instructions, indent=0))
    description = {
        "version": VERSION,
        "action_spec": action_spec.to_json(),
        "image_size": list(sizes.pop()),
        "image_format": indices[0]["image_format"],
        "frame_rate": frame_rate,
        "encoder": encoder.identity.to_json(),
        "source": source,
        "episodes": len(columns["shard"]),
        "steps": int(sum(columns["length"])),
        "shards": [pathlib.Path(shard).name for shard in shards],
        "shard_steps": np.bincount(
            columns["shard"], weights=columns["length"], minlength=len(indices)
        )
        .astype(int)
        .tolist(),
        "shard_bytes": [pathlib.Path(shard).stat().st_size for shard in shards],
        "action_statistics": moments.summary(),
    }
    if any("linked_to" in index for index in indices):
        description["linked"] = _linked([index["linked_to"] for index in indices])
    write_atomically(root / "dataset.json", json.dumps(description, indent=1))


def _linked(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the linked files are, with what they have in common at one place."""
    paths = [file["path"] for file in files]
    directory = os.path.commonpath([os.path.dirname(path) for path in paths])
    return {
        "directory": directory,
        "files": [os.path.relpath(path, directory) for path in paths],
        "bytes": [file["bytes"] for file in files],
    }

"""Training data from RLDS files as they are: what `data.rlds` of a config says, opened."""

from __future__ import annotations

import dataclasses
from typing import Any

from rt1_jax.data import oxe
from rt1_jax.data.loader import in_workers
from rt1_jax.data.rlds.checks import check_request
from rt1_jax.data.rlds.importer import wanted_frames
from rt1_jax.data.rlds.source import RLDSSource
from rt1_jax.data.rlds.stream import RLDSStream
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.training_data import TrainingData, check_embedding_size

_KEYS = {"builder_dir", "dataset", "actions", "split", "encoder", "registry"}


def open_stream(
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
    """As `open_training_data`, for a config with `data.rlds`.

    Nothing is held out for validation, and what needs to know all the data first cannot be had.

    Raises:
      OXEError, DatasetError: the files cannot be read, description, files and actions do not fit
        (`check_request`), or the config asks for what needs an import.
    """
    asked = dict(data["rlds"])
    if unknown := sorted(set(asked) - _KEYS):
        raise DatasetError(
            f"data.rlds has the unknown key {unknown[0]!r}, known are {sorted(_KEYS)}"
        )
    if not asked["dataset"]:
        raise DatasetError(
            f"data.rlds.dataset is empty, expected the name of what {asked['builder_dir']} holds, "
            "e.g. fractal20220817_data"
        )
    defaults: dict[str, Any] = {
        "episodes": 0,
        "tasks": 1.0,
        "embedding_components": 0,
        "travel_repeats": 1,
        "chunk": 1,
        "mixture": (),
        "validation_episodes": 0,
    }
    for key, value in defaults.items():
        if (tuple(data[key]) if isinstance(value, tuple) else data[key]) != value:
            raise DatasetError(
                f"data.{key} is {data[key]!r}, but data.rlds reads files as they are, where only "
                f"{value!r} can be had: import them (python -m rt1_jax.data.import_rlds)"
            )
    if asked["registry"]:
        oxe.load_user_file(asked["registry"])
    dataset = oxe.get(asked["dataset"])
    source = RLDSSource.open(asked["builder_dir"], asked["split"])
    check_request(dataset, source, asked["actions"])
    size = tuple(data["image_size"]) if data["image_size"] else None
    encoder = None
    if asked["encoder"]:
        from rt1_jax.language import load_encoder

        encoder = load_encoder(asked["encoder"])
    image = dataclasses.replace(wanted_frames(dataset, source, size, None), resize=size is not None)
    stream = RLDSStream(
        dataset,
        source,
        frames=frames,
        seed=seed,
        image=image,
        scale=asked["actions"],
        encoder=encoder,
        process_index=process_index,
        process_count=process_count,
    )
    check_embedding_size(embedding_size, 0, stream.identity, source.directory)
    # One worker: each would read all files for its share of the windows.
    batches = in_workers(stream.batch(batch_size), min(loader["workers"], 1))
    return TrainingData(
        stream.action_spec,
        stream.identity,
        dataset.frame_rate,
        image.image_size,
        {"rlds": source.directory, "dataset": dataset.name, "version": source.version},
        source.total_episodes,
        lambda first: batches,
        {},
        None,
        {
            "episodes": list(source.episodes),
            "frames": frames,
            "batch_size": batch_size,
            "seed": seed,
            "workers": min(loader["workers"], 1),
            "hosts": process_count,
        },
        counted=False,
    )

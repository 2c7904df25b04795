"""Writes a dataset as RLDS: a directory that TensorFlow Datasets reads.

    python -m rt1_jax.data.export_rlds --dataset=data/mine --output=out/rlds --name=my_robot

makes `out/rlds/my_robot/1.0.0`, for `tfds.builder_from_directory("out/rlds/my_robot/1.0.0")` or
`tfds.load("my_robot", data_dir="out/rlds")`. The schema is that of `fractal20220817_data`, RT-1's
own data, as far as a dataset has its fields. Frames stay the very JPEG or PNG files that they are.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.data.encoded import EncodedEpisode
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore
from rt1_jax.host_tensorflow import import_tensorflow

VERSION = "1.0.0"
_SHARD_BYTES = 256 << 20
_BATCH = 16
"""Episodes between two writings of TFDS's own files of metadata."""
_TERMINATE = "terminate_episode"


def export_rlds(
    store: StepStore,
    output: str | os.PathLike[str],
    *,
    name: str,
    shard_bytes: int = _SHARD_BYTES,
    progress: bool = True,
) -> pathlib.Path:
    """Writes a dataset as a TFDS directory with the one split "train".

    Args:
      store: the dataset.
      output: what is to TFDS the `data_dir`; `output/name` must not exist yet.
      name: of the TFDS dataset.
      shard_bytes: about how large a shard becomes.
      progress: whether to draw a progress bar.

    Returns:
      the directory of the TFDS dataset, `output/name/1.0.0`.

    Raises:
      DatasetError: the name is not one for TFDS, or the directory is taken.
    """
    import tqdm

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise DatasetError(
            f"--name={name}: expected lower-case letters, digits and underscores, as TFDS wants"
        )
    final = pathlib.Path(output) / name
    if final.exists():
        raise DatasetError(f"{final} exists: choose another --name or --output, or delete it")
    partial = final.with_name(f".{name}.partial-{os.getpid()}")
    folder = partial / VERSION
    folder.mkdir(parents=True)
    try:
        writer = _writer(store, folder, name, _episodes_per_shard(store, shard_bytes))
        metadata = store.metadata()
        batch = []
        for number in tqdm.trange(len(store), unit="episode", disable=not progress):
            batch.append(
                {
                    "steps": list(_steps(store, number)),
                    "episode_metadata": {
                        "json": json.dumps(metadata[number] if len(metadata) == len(store) else {})
                    },
                }
            )
            if len(batch) == _BATCH or number == len(store) - 1:
                writer.add_examples({"train": batch})
                batch = []
        writer.close_splits(["train"])
        os.replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final / VERSION


def is_terminal(episode: EncodedEpisode) -> bool:
    """Whether the last action ends the episode; true of actions that cannot say it."""
    terminate = episode.actions.get(_TERMINATE)
    return terminate is None or bool(terminate[-1, 0] > 0.5)


def _steps(store: StepStore, number: int) -> Iterator[dict[str, Any]]:
    episode = store.read_encoded(number)
    embedding = np.asarray(store.embedding(number), np.float32)
    dtypes = {f.name: _dtype(f.kind) for f in store.action_spec.fields}
    terminal = is_terminal(episode)
    last = len(episode) - 1
    for t, frame in enumerate(episode.frames):
        ends = t == last and terminal
        yield {
            "observation": {
                "image": frame,
                "natural_language_instruction": episode.instruction,
                "natural_language_embedding": embedding,
            },
            "action": {k: v[t].astype(dtypes[k]) for k, v in episode.actions.items()},
            "reward": np.float32(ends),
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": ends,
        }


def _episodes_per_shard(store: StepStore, shard_bytes: int) -> int:
    sizes = [os.path.getsize(store.directory / name) for name in store.description["shards"]]
    an_episode = max(1, sum(sizes) // max(int(store.description["episodes"]), 1))
    return max(1, shard_bytes // an_episode)


def _dtype(kind: str) -> type:
    return np.int32 if kind == "one_hot" else np.float32


def _writer(store: StepStore, folder: pathlib.Path, name: str, episodes_per_shard: int) -> Any:
    import_tensorflow()  # before TFDS does, which writes with it
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import dataset_info, sequential_writer

    description = store.description
    identity = dataset_info.DatasetIdentity(
        name=name,
        version=tfds.core.Version(VERSION),
        data_dir=str(folder),
        module_name="rt1_jax.data.export_rlds",
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=(
            f"{len(store)} episodes, {int(store.lengths.sum())} steps at "
            f"{description['frame_rate']:g} Hz. Embeddings: {store.encoder.name}. Source: "
            f"{json.dumps(description['source'])}"
        ),
        features=_features(store.action_spec, store, tfds),
        metadata=tfds.core.MetadataDict(
            {
                "action_spec": store.action_spec.to_json(),
                "frame_rate": description["frame_rate"],
                "encoder": store.encoder.to_json(),
            }
        ),
    )
    writer = sequential_writer.SequentialWriter(info, max_examples_per_shard=episodes_per_shard)
    writer.initialize_splits(["train"])
    return writer


def _features(spec: ActionSpec, store: StepStore, tfds: Any) -> Any:
    height, width = store.image_size
    actions = {
        field.name: tfds.features.Tensor(
            shape=(field.size,), dtype=_dtype(field.kind), doc=field.unit
        )
        for field in spec.fields
    }
    observation = {
        "image": tfds.features.Image(
            shape=(height, width, 3),
            dtype=np.uint8,
            encoding_format=store.description["image_format"],
        ),
        "natural_language_instruction": tfds.features.Text(),
        "natural_language_embedding": tfds.features.Tensor(
            shape=(store.encoder.dimensions,), dtype=np.float32
        ),
    }
    steps = tfds.features.Dataset(
        {
            "observation": tfds.features.FeaturesDict(observation),
            "action": tfds.features.FeaturesDict(actions),
            "reward": tfds.features.Scalar(dtype=np.float32),
            "is_first": tfds.features.Scalar(dtype=np.bool_),
            "is_last": tfds.features.Scalar(dtype=np.bool_),
            "is_terminal": tfds.features.Scalar(dtype=np.bool_),
        }
    )
    return tfds.features.FeaturesDict(
        {
            "steps": steps,
            "episode_metadata": tfds.features.FeaturesDict({"json": tfds.features.Text()}),
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.data.export_rlds", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--dataset", required=True, help="directory of the dataset")
    parser.add_argument("--output", required=True, help="TFDS data_dir to write into")
    parser.add_argument("--name", required=True, help="of the TFDS dataset")
    given = parser.parse_args(arguments)
    try:
        store = StepStore.open(given.dataset)
        folder = export_rlds(store, given.output, name=given.name)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    print(f"{folder}: {len(store)} episodes ({int(store.lengths.sum())} steps)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

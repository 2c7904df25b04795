"""Small RLDS datasets written by TFDS itself: TFRecord shards, JPEG frames, nested steps."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import rlds_schemas

INSTRUCTIONS = ("pick up the apple", "open the drawer", "move the cup near the café menu")


def write_rlds(
    directory: str | os.PathLike[str],
    name: str,
    episodes: int = 3,
    steps: int = 5,
    seed: int = 0,
    shards: int = 1,
    features: rlds_schemas.Schema | None = None,
    episode_fn: Callable[[int], dict[str, Any]] | None = None,
    split: str = "train",
) -> pathlib.Path:
    """Writes a dataset that `tfds.builder_from_directory` reads, episodes in order.

    Args:
      directory: where; the dataset goes to DIRECTORY/NAME/VERSION.
      name: a dataset of `rlds_schemas.SCHEMAS`, or any name where `features` is given.
      episodes: how many.
      steps: of each episode.
      seed: of the values.
      shards: TFRecord files.
      features: a schema in the form of `rlds_schemas`, in place of the public one.
      episode_fn: number -> episode, in place of `make_episode`'s.
      split: the split's name.

    Returns:
      The builder's directory.
    """
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    tree = rlds_schemas.schema(name) if features is None else features
    make = episode_fn or (lambda number: make_episode(name, number, steps, seed, tree))

    class SmallRLDS(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(rlds_schemas.VERSIONS.get(name, "0.1.0"))

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self, features=tfds_features(tree), disable_shuffling=True
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            for number in range(episodes):
                yield number, make(number)

    SmallRLDS.name = name
    builder = SmallRLDS(data_dir=os.fspath(directory))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=shards, try_download_gcs=False)
    )
    return pathlib.Path(builder.data_dir)


def tfds_features(tree: rlds_schemas.Schema) -> Any:
    """A schema as TFDS features: `steps` a nested dataset, frames JPEG."""
    import tensorflow_datasets as tfds

    def feature(value: Any) -> Any:
        if isinstance(value, dict):
            return tfds.features.FeaturesDict({k: feature(v) for k, v in value.items()})
        kind, shape = value
        if kind == "jpeg":
            return tfds.features.Image(shape=shape, dtype=np.uint8, encoding_format="jpeg")
        if kind == "float_image":
            return tfds.features.Image(shape=shape, dtype=np.float32)
        dtype = np.str_ if kind == "string" else np.dtype(kind).type
        return tfds.features.Tensor(shape=shape, dtype=dtype)

    top = {key: feature(value) for key, value in tree.items() if key != "steps"}
    steps = tfds.features.Dataset({k: feature(v) for k, v in tree["steps"].items()})
    return tfds.features.FeaturesDict({**top, "steps": steps})


def make_episode(
    name: str,
    number: int,
    steps: int = 5,
    seed: int = 0,
    tree: rlds_schemas.Schema | None = None,
) -> dict[str, Any]:
    """An episode of plausible values: every key of the schema, actions within their ranges.

    Returns:
      {"steps": [{"action": ..., ...}, ...], ...} as TFDS takes it; the last step terminates.
    """
    tree = rlds_schemas.schema(name) if tree is None else tree
    rng = np.random.default_rng([seed, number])
    text = INSTRUCTIONS[number % len(INSTRUCTIONS)]

    def values(part: Any, path: str, step: int) -> Any:
        if isinstance(part, dict):
            return {k: values(v, f"{path}/{k}" if path else k, step) for k, v in part.items()}
        return _value(name, path, part, step, steps, text, rng)

    episode = {key: values(part, key, 0) for key, part in tree.items() if key != "steps"}
    episode["steps"] = [values(tree["steps"], "", step) for step in range(steps)]
    return episode


def stack_steps(episode: dict[str, Any]) -> dict[str, np.ndarray]:
    """An episode's steps -> {path: [t, ...]}, as the importer hands them to `actions`."""
    rows = [_flat(step) for step in episode["steps"]]
    return {path: np.stack([row[path] for row in rows]) for path in rows[0]}


def read_rlds(builder_dir: pathlib.Path, split: str = "train") -> list[dict[str, np.ndarray]]:
    """All episodes back through TFDS, each as `stack_steps` gives it."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(os.fspath(builder_dir))
    dataset = builder.as_dataset(split=split).map(lambda e: e["steps"].batch(10_000))
    return [_flat(steps) for steps in tfds.as_numpy(dataset.flat_map(lambda steps: steps))]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        found.update(_flat(value, f"{path}/") if isinstance(value, dict) else {path: value})
    return found


def _value(
    name: str,
    path: str,
    leaf: tuple[str, tuple[int, ...]],
    step: int,
    steps: int,
    text: str,
    rng: np.random.Generator,
) -> Any:
    kind, shape = leaf
    last = step == steps - 1
    if path.split("/")[-1] in ("is_first", "is_last", "is_terminal"):
        return step == 0 if path == "is_first" else last
    if path.endswith("terminate_episode"):
        one_hot = np.eye(3, dtype=np.int32)[0 if last else 1]
        return one_hot if shape else np.float32(last)
    if kind == "jpeg":
        return _picture(shape, rng)
    if kind == "float_image":
        return np.full(shape, rng.uniform(), np.float32)
    if kind == "string":
        return text
    if path.endswith("natural_language_embedding"):
        vector = np.random.default_rng(len(text)).normal(size=shape)
        return (vector / np.linalg.norm(vector)).astype(np.float32)
    if path == "observation/instruction":
        codes = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        return np.pad(codes, (0, shape[0] - len(codes)))
    if kind == "bool":
        return bool(rng.integers(2))
    if path.split("/")[0] == "action":
        return _action(rlds_schemas.RANGES.get(name, {}), path, shape, rng)
    if path == "reward":
        return np.float32(last)
    if kind.startswith("int"):
        return np.asarray(rng.integers(0, 5, shape), kind)[()]
    return rng.uniform(-1, 1, shape).astype(np.float32) if shape else np.float32(rng.uniform())


def _action(
    ranges: dict[str, tuple], path: str, shape: tuple[int, ...], rng: np.random.Generator
) -> Any:
    span = ranges.get(path.removeprefix("action").lstrip("/"), (-1.0, 1.0))
    value = rng.choice(span, shape) if len(span) > 2 else rng.uniform(*span, shape)
    return np.asarray(value, np.float32)[()]


def _picture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A gradient in a colour of its own: JPEG keeps it nearly, and it encodes fast and small."""
    height, width, _ = shape
    rows = np.linspace(0, 80, height)[:, None, None]
    columns = np.linspace(0, 80, width)[None, :, None]
    return (rows + columns + rng.integers(0, 95, 3)).astype(np.uint8)

"""An RLDS dataset on disk or in a bucket: its files, and what its steps hold."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
from typing import Any

from rt1_jax.data.shards import DatasetError

STEPS = "steps"


@dataclasses.dataclass(frozen=True)
class Feature:
    """One array of a step: its shape in one step (None where it varies) and NumPy dtype."""

    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class RLDSSource:
    """What is known of an RLDS dataset without reading an episode; picklable.

    Attributes:
      name, version: as TFDS has them.
      directory: the builder directory.
      split: e.g. "train".
      files: the split's TFRecord files.
      episodes: how many each file holds, as the dataset's own description says.
      features: {path inside a step: its shape and type}, e.g. "observation/image".
    """

    name: str
    version: str
    directory: str
    split: str
    files: tuple[str, ...]
    episodes: tuple[int, ...]
    features: dict[str, Feature]

    @property
    def total_episodes(self) -> int:
        return sum(self.episodes)

    @classmethod
    def open(cls, builder_dir: str | os.PathLike[str], split: str = "train") -> RLDSSource:
        """Reads the description of a builder directory, e.g. `gs://bucket/bridge/0.1.0`.

        No record is read, and TensorFlow is not loaded for a local directory.

        Raises:
          DatasetError: nothing there, no right to read it, no such split, not RLDS, or in another
            file format than TFRecord.
        """
        directory = os.fspath(builder_dir)
        info = _read_info(directory)
        if split not in info.splits:
            raise DatasetError(f"{directory} has no split {split!r}, only {sorted(info.splits)}")
        file_format = getattr(info.file_format, "value", info.file_format)
        if file_format not in (None, "tfrecord"):
            raise DatasetError(
                f"{directory} holds {file_format} files, expected tfrecord; convert it with "
                "tfds.convert_format"
            )
        from tensorflow_datasets.core import utils

        flat = utils.flatten_nest_dict(info.features.get_serialized_info())
        features = {
            path.removeprefix(f"{STEPS}/"): Feature(
                tuple(tensor.shape[1:]),
                "bytes"
                if str(tensor.np_dtype) in ("object", "<class 'object'>")
                or tensor.np_dtype in (object, str, bytes)
                else str(tensor.np_dtype),
            )
            for path, tensor in flat.items()
            if path.startswith(f"{STEPS}/")
        }
        if not features:
            raise DatasetError(
                f"{directory} is no RLDS dataset: its features have no nested {STEPS!r}, only "
                f"{sorted(flat)}"
            )
        chosen = info.splits[split]
        return cls(
            info.name,
            str(info.version),
            directory,
            split,
            tuple(os.fspath(path) for path in chosen.filepaths),
            tuple(int(length) for length in chosen.shard_lengths),
            features,
        )


def _read_info(directory: str) -> Any:
    remote = "://" in directory
    if not remote and not os.path.exists(os.path.join(directory, "dataset_info.json")):
        versions = _versions(directory)
        hint = f"; is it {' or '.join(versions)}?" if versions else ""
        raise DatasetError(
            f"{directory} has no dataset_info.json: expected the directory of one version of a "
            f"TFDS dataset, as in fractal20220817_data/0.1.0{hint}"
        )
    try:
        # TFDS writes what it looks up to stderr, word by word.
        logging.getLogger("absl").setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            import tensorflow_datasets as tfds

            return tfds.builder_from_directory(directory).info
    except Exception as error:  # whatever TFDS, etils or a cloud client raise
        said = str(error).strip().splitlines() or [type(error).__name__]
        hint = (
            "; a bucket needs `gcloud auth application-default login` (or "
            "GOOGLE_APPLICATION_CREDENTIALS) and its exact directory, with the version; or copy it "
            "first with `gcloud storage cp -r`"
            if remote
            else "; copy or download it again"
        )
        raise DatasetError(f"{directory} cannot be read ({said[0]}){hint}") from error


def _versions(directory: str) -> list[str]:
    """Sub-directories that would do."""
    if not os.path.isdir(directory):
        return []
    found = [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
    return [path for path in found if os.path.exists(os.path.join(path, "dataset_info.json"))]

"""Which format a checkpoint has, and reading it whatever it is."""

from __future__ import annotations

import os
import pathlib

from rt1_jax.checkpoints import rt1_x_reader, tf_reader
from rt1_jax.checkpoints.loaded import Loaded
from rt1_jax.checkpoints.location import CheckpointError, pretrained_names, resolve
from rt1_jax.checkpoints.native import find_checkpoint

__all__ = ["CheckpointError", "Loaded", "detect_format", "read"]


def detect_format(path: str | os.PathLike[str]) -> str:
    """The format of what is at ``path``, by the names of files; reads no tensor.

    Args:
      path: on disk, or the name of a shipped policy.

    Returns:
      ``native``, ``tf_checkpoint``, ``tf_saved_model``, ``rt1_x_msgpack`` or ``rt1_x_orbax``.

    Raises:
      CheckpointError: nothing is there, or nothing that is known, or the path is a URL.
    """
    return _locate(resolve(path))[0]


def read(path: str | os.PathLike[str]) -> Loaded:
    """Reads a published checkpoint of RT-1 or RT-1-X.

    Args:
      path: a TensorFlow training checkpoint's prefix (``.../ckpt-424760``), a SavedModel directory
        or its ``variables`` (``saved_model.pb`` may be missing), an RT-1-X msgpack file
        (``checkpoint_N``) or the folder that holds it, or an RT-1-X Orbax directory.

    Raises:
      CheckpointError: one line that names file or tensor and says what to do.
    """
    kind, place = _locate(resolve(path))
    if kind == "native":
        raise CheckpointError(f"{path} is a native checkpoint: use rt1_jax.load_policy")
    if kind == "rt1_x_msgpack":
        return rt1_x_reader.read_rt1_x_msgpack(place)
    if kind == "rt1_x_orbax":
        return rt1_x_reader.read_rt1_x_orbax(place)
    return tf_reader.read_tf(place)


def _locate(path: pathlib.Path) -> tuple[str, pathlib.Path]:
    """The format and the file, prefix or directory to read."""
    if path.is_dir() and _is_native(path):
        return "native", path
    if prefix := tf_reader.find_prefix(path):
        saved_model = prefix.name == "variables"
        return "tf_saved_model" if saved_model else "tf_checkpoint", prefix
    if not path.exists():
        raise CheckpointError(
            f"{path}: there is no such file, checkpoint prefix or shipped policy (shipped: "
            f"{', '.join(pretrained_names()) or 'none'})"
        )
    if file := rt1_x_reader.find_msgpack(path):
        return "rt1_x_msgpack", file
    if folder := rt1_x_reader.find_orbax(path):
        # Orbax of old kept whole arrays in one msgpack file by the name of "checkpoint".
        return "rt1_x_orbax", folder
    raise CheckpointError(
        f"{path} is of no known format: expected a native checkpoint, a TensorFlow checkpoint "
        "prefix, a SavedModel directory, or an RT-1-X checkpoint (msgpack file or Orbax directory)"
    )


def _is_native(path: pathlib.Path) -> bool:
    try:
        return (find_checkpoint(path) / "config.json").is_file()
    except CheckpointError:
        return False

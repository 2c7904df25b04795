"""Puts tensors of another implementation into this project's variables, each exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from rt1_jax.checkpoints.layout import Path
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.checkpoints.tf_names import NamedTensor


def assemble(
    tensors: Iterable[NamedTensor], read: Callable[[str], np.ndarray], what: str
) -> dict[str, Any]:
    """Reads every tensor that has a place here and puts it there.

    Args:
      tensors: the other implementation's tensors, see ``named_tensors``.
      read: gives a tensor by its name there; raises ``KeyError`` where there is none.
      what: the checkpoint, for messages.

    Returns:
      ``{"params": ..., "batch_stats": ...}``, nested dicts of float32 arrays.

    Raises:
      CheckpointError: a tensor is missing or of another shape.
    """
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for tensor in tensors:
        if tensor.path is None:
            continue
        try:
            value = np.asarray(read(tensor.name))
        except KeyError:
            raise CheckpointError(f"{what}: tensor {tensor.name!r} is missing") from None
        if value.shape != tensor.shape:
            raise CheckpointError(
                f"{what}: tensor {tensor.name!r} has shape {value.shape}, expected {tensor.shape}"
            )
        place(variables, tensor.path, value.astype(np.float32, copy=False))
    return variables


def place(variables: dict[str, Any], path: Path, stored: np.ndarray) -> None:
    """Puts a tensor in its stored shape at ``path``, in the shape it has here."""
    node = variables
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = to_own_shape(path, stored)


def to_own_shape(path: Path, stored: np.ndarray) -> np.ndarray:
    """Drops the dimensions of size 1 that other implementations' convolutions have."""
    if path[-1] == "kernel" and path[-2] == "depthwise_conv":
        return stored[..., 0]  # [k, k, c, 1] -> [k, k, c]
    if path[-1] == "kernel" and stored.ndim == 4 and path[-2] != "stem_conv":
        return stored[0, 0]  # [1, 1, in, out] -> [in, out]
    return stored


def lookup(variables: Mapping[str, Any], path: Path) -> np.ndarray:
    """The tensor at ``path`` of nested mappings."""
    node: Any = variables
    for key in path:
        node = node[key]
    return np.asarray(node)

"""Reads the RT-1-X Flax code's checkpoints: legacy msgpack files and Orbax directories."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rt1_jax import actions
from rt1_jax.checkpoints import rt1_x_names
from rt1_jax.checkpoints.assemble import assemble
from rt1_jax.checkpoints.infer import infer_rt1_x_config, is_rt1_x
from rt1_jax.checkpoints.loaded import Loaded
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.checkpoints.tf_bundle import check_not_lfs_pointer
from rt1_jax.models.config import RT1Config

_PLACEHOLDER = "PLACEHOLDER://"


def read_rt1_x_msgpack(path: str | os.PathLike[str]) -> Loaded:
    """Reads a msgpack file as ``flax.serialization`` writes it.

    Raises:
      CheckpointError: not such a file, truncated, or another model's.
    """
    file = pathlib.Path(path)
    tree = _read_msgpack(file)
    return _load(_leaves(tree), "rt1_x_msgpack", str(file))


def read_rt1_x_orbax(path: str | os.PathLike[str]) -> Loaded:
    """Reads a directory as Orbax writes it.

    Raises:
      CheckpointError: not such a directory, damaged, or another model's.
    """
    import orbax.checkpoint as ocp

    folder = pathlib.Path(path).absolute()
    for pointer in folder.rglob("*"):
        if pointer.is_file() and pointer.stat().st_size < 200:
            check_not_lfs_pointer(pointer)
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(folder).item_metadata
            tree = getattr(metadata, "tree", metadata)
            as_numpy = _map_leaves(tree, lambda _: ocp.RestoreArgs(restore_type=np.ndarray))
            restored = checkpointer.restore(folder, restore_args=as_numpy)
    except Exception as error:  # Orbax and TensorStore raise many kinds.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{folder} cannot be restored as an Orbax checkpoint: {reason[0][:300]}"
        ) from error
    return _load(_leaves(restored), "rt1_x_orbax", str(folder))


def find_msgpack(path: pathlib.Path) -> pathlib.Path | None:
    """The msgpack file that a path means: itself, or the newest ``checkpoint_N`` of a directory."""
    if path.is_file():
        return path if _looks_like_msgpack(path) else None
    if not path.is_dir():
        return None
    numbered = [
        p for p in path.iterdir() if p.is_file() and re.fullmatch(r"checkpoint_\d+", p.name)
    ]
    numbered.sort(key=lambda p: int(p.name.rpartition("_")[2]))
    return numbered[-1] if numbered else None


def find_orbax(path: pathlib.Path) -> pathlib.Path | None:
    """The Orbax directory that a path means, or None."""
    if not path.is_dir():
        return None
    numbered = [p for p in path.iterdir() if p.is_dir() and re.search(r"\d+$", p.name)]
    numbered.sort(key=lambda p: int(re.search(r"\d+$", p.name)[0]))  # type: ignore[index]
    for folder in (path, path / "default", path / "state", *reversed(numbered)):
        if any((folder / name).is_file() for name in ("_METADATA", "checkpoint")):
            return folder
        if (folder / "default" / "_METADATA").is_file():
            return folder / "default"
    return None


def _load(leaves: Mapping[str, np.ndarray], kind: str, what: str) -> Loaded:
    shapes = {name: tuple(np.shape(value)) for name, value in leaves.items()}
    if not is_rt1_x(shapes):
        tops = sorted({name.split("/")[0] for name in shapes})
        raise CheckpointError(
            f"{what}: a Flax checkpoint, but not of RT-1-X: no params/Transformer_0 in it, only "
            f"{tops[:6]}"
        )
    config = infer_rt1_x_config(shapes, what)
    tensors = rt1_x_names.named_tensors(config)
    variables = assemble(tensors, leaves.__getitem__, what)
    used = {tensor.name for tensor in tensors}
    ignored, unknown = {}, []
    for name in sorted(set(leaves) - used):
        top = name.split("/")[0]
        if top in ("params", "batch_stats"):
            unknown.append(name)
        else:
            ignored[name] = _WHY.get(top, f"no part of the model: {top}")
    if unknown:
        raise CheckpointError(
            f"{what}: {len(unknown)} tensors are not RT-1-X's, the first is {unknown[0]!r}"
        )
    step = leaves.get("step")
    return Loaded(
        format=kind,
        path=what,
        model_config=config,
        variables=variables,
        action_spec=_action_spec(config),
        step=0 if step is None else int(np.asarray(step).reshape(-1)[0]),
        ignored=ignored,
    )


_WHY = {
    "step": "read as the step",
    "opt_state": "optimiser state of another training",
    "rng": "random key of another training",
}


def _action_spec(config: RT1Config) -> actions.ActionSpec:
    """RT-1-X has 512 bins and world_vector within 2; the RT-1 setting has RT-1's bounds."""
    base = actions.RT1_X if config.bins == actions.RT1_X.bins else actions.OXE_RT1
    return dataclasses.replace(base, bins=config.bins)


def _read_msgpack(file: pathlib.Path) -> Any:
    from flax import serialization

    check_not_lfs_pointer(file)
    try:
        tree = serialization.msgpack_restore(file.read_bytes())
    except Exception as error:  # msgpack raises its own kinds, and ValueError.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{file} is no whole msgpack file of Flax, it is truncated or of another format: "
            f"{reason[0][:200]}"
        ) from error
    if not isinstance(tree, Mapping):
        raise CheckpointError(
            f"{file} holds a {type(tree).__name__}, expected a mapping of tensors"
        )
    if any(isinstance(v, str) and v.startswith(_PLACEHOLDER) for _, v in _walk(tree)):
        raise CheckpointError(
            f"{file} only points to arrays beside it: give the directory {file.parent} instead"
        )
    return tree


def _looks_like_msgpack(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        head = file.read(1)
    # A mapping: fixmap 0x80-0x8f, map16, map32. "v" opens a git-lfs pointer, reported later.
    return bool(head) and (0x80 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF) or head == b"v")


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(value)
        for name, value in _walk(tree)
        if value is not None and not isinstance(value, str | bytes)
    }


def _walk(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        items: Any = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        yield prefix, tree
        return
    for key, value in items:
        yield from _walk(value, f"{prefix}/{key}" if prefix else str(key))


def _map_leaves(tree: Any, function: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _map_leaves(value, function) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_map_leaves(value, function) for value in tree]
    return function(tree)

"""A run's directory: whose config it is, and where its checkpoints go."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from typing import Any

from rt1_jax.checkpoints import native
from rt1_jax.files import write_atomically
from rt1_jax.training.config_keys import flatten_with_newer

FREE_KEYS = frozenset(
    {
        "log_every",
        "checkpoint_every",
        "keep_checkpoints",
        "keep_best",
        "loader",
        "mesh",
        "guards",
    }
)
"""What may change between two starts of one run without making it another run."""


class WorkdirError(ValueError):
    """A run's directory that belongs to another run."""


def claim_workdir(workdir: str | os.PathLike[str], config: dict[str, Any]) -> pathlib.Path:
    """Makes a run's directory, or checks that the run in it has the same config.

    Raises:
      WorkdirError: the directory holds a run with another config; the first difference is named.
    """
    root = pathlib.Path(workdir).absolute()
    path = root / "config.json"
    if path.exists():
        old, new = flatten_with_newer(json.loads(path.read_text())), flatten_with_newer(config)
        different = sorted(k for k in set(old) | set(new) if old.get(k) != new.get(k))
        different = [k for k in different if k.split(".")[0] not in FREE_KEYS]
        if different:
            key = different[0]
            raise WorkdirError(
                f"{root} belongs to a run with another config: {key} is {old.get(key)!r} there and "
                f"{new.get(key)!r} here ({len(different)} keys differ); choose another --workdir, "
                "or remove it"
            )
    write_atomically(path, json.dumps(config, indent=1))
    return root


def checkpoint_path(root: pathlib.Path, step: int) -> pathlib.Path:
    """Where a run keeps the checkpoint of a step."""
    return root / "checkpoints" / str(step)


def drop_old_checkpoints(root: pathlib.Path, keep: int) -> None:
    """Keeps the newest `keep` checkpoints (all, if 0)."""
    steps = native.list_checkpoints(root)
    for step in steps[:-keep] if keep else []:
        path = checkpoint_path(root, step)
        hidden = path.with_name(f".{path.name}.removed")
        os.replace(path, hidden)  # a checkpoint that is being removed must not look whole
        shutil.rmtree(hidden)

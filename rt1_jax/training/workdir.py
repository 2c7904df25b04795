"""A run's directory: whose config it is, and where its checkpoints go."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from rt1_jax.checkpoints import native
from rt1_jax.checkpoints.saver import hide_and_remove
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
        # How a step is computed, as other devices ask for it.
        "step.accumulate",
        "step.remat",
        "step.packed_images",
        "step.tpu_compiler_options",
    }
)
"""What may change between two starts of one run without making it another run: keys, or groups."""


def is_free(key: str) -> bool:
    """Whether a key of a flat config may change, see `FREE_KEYS`."""
    return key in FREE_KEYS or key.split(".")[0] in FREE_KEYS


class WorkdirError(ValueError):
    """A run's directory that belongs to another run."""


def check_workdir(workdir: str | os.PathLike[str], config: dict[str, Any]) -> pathlib.Path:
    """A run's directory, which need not be there yet; writes nothing.

    Raises:
      WorkdirError: the directory holds a run with another config; the first difference is named.
    """
    if "://" in str(workdir):
        raise WorkdirError(
            f"--workdir is {str(workdir)!r}, expected a directory: checkpoints appear by renaming, "
            "which a bucket cannot do at once; mount a file system that all hosts see "
            "(docs/tpu_pods.md)"
        )
    root = pathlib.Path(workdir).absolute()
    path = root / "config.json"
    if path.exists():
        old, new = flatten_with_newer(json.loads(path.read_text())), flatten_with_newer(config)
        different = sorted(k for k in set(old) | set(new) if old.get(k) != new.get(k))
        different = [k for k in different if not is_free(k)]
        if different:
            key = different[0]
            raise WorkdirError(
                f"{root} belongs to a run with another config: {key} is {old.get(key)!r} there and "
                f"{new.get(key)!r} here ({len(different)} keys differ); choose another --workdir, "
                "or remove it"
            )
    return root


def claim_workdir(workdir: str | os.PathLike[str], config: dict[str, Any]) -> pathlib.Path:
    """Makes a run's directory, or checks that the run in it has the same config.

    Raises:
      WorkdirError: see `check_workdir`.
    """
    root = check_workdir(workdir, config)
    write_atomically(root / "config.json", json.dumps(config, indent=1))
    return root


def checkpoint_path(root: pathlib.Path, step: int) -> pathlib.Path:
    """Where a run keeps the checkpoint of a step."""
    return root / "checkpoints" / str(step)


def drop_old_checkpoints(root: pathlib.Path, keep: int, keep_best: int = 0) -> None:
    """Keeps the newest `keep` checkpoints (all, if 0), and the best `keep_best` beside them.

    Best is by the loss on held-out windows, which a checkpoint's description holds.
    """
    steps = native.list_checkpoints(root)
    old = steps[:-keep] if keep else []
    best = sorted(steps, key=lambda step: _validation_loss(root, step))[:keep_best]
    for step in old:
        if step not in best:
            hide_and_remove(checkpoint_path(root, step))


def _validation_loss(root: pathlib.Path, step: int) -> float:
    loss = native.read_description(checkpoint_path(root, step)).source.get("validation_loss")
    return float("inf") if loss is None else float(loss)

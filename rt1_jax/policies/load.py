"""`load_policy`: any supported checkpoint -> a policy."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from rt1_jax.checkpoints import native
from rt1_jax.checkpoints.location import pretrained_names, resolve
from rt1_jax.policies.compilation_cache import use_compilation_cache
from rt1_jax.policies.streaming import Policy

__all__ = ["build_model", "load_policy", "pretrained_names"]


def load_policy(
    path: str | os.PathLike[str], *, compute: str = "float32", warm_up: int = 0
) -> Policy:
    """Loads a policy.

    Args:
      path: the name of a policy that ships with the package (see `pretrained_names`), a native
        checkpoint or a run's directory (its newest checkpoint), or a checkpoint in any format of
        `rt1_jax.checkpoints.formats`.
      compute: "float32"; or "bfloat16", faster where the processor has units for it, with slightly
        other logits (see `rt1_jax.policies.preparation.Prepared` and docs/speed.md).
      warm_up: a number of robots for which steps are compiled now, of images as the checkpoint's
        camera gives them, so that the first action is not the compile. What was compiled is kept
        on disk for the next process (`rt1_jax.policies.compilation_cache`). 0 leaves it to the
        first step.

    Raises:
      CheckpointError: nothing there, something that cannot be read, or a URL.
    """
    policy = _load(path, compute)
    if warm_up:
        use_compilation_cache()
        policy.warm_up(warm_up)
    return policy


def build_model(description: native.PolicyDescription) -> Any:
    """The Flax module that a description names."""
    from rt1_jax.models.registry import build

    try:
        return build(description.architecture, description.model)
    except (KeyError, TypeError, ValueError) as error:
        raise native.CheckpointError(f"the checkpoint's model config is not usable: {error}") from (
            error
        )


def _load(path: str | os.PathLike[str], compute: str) -> Policy:
    root = resolve(path)
    if not _is_native(root):
        # Readers of the published formats; only they know TensorFlow's names.
        from rt1_jax.checkpoints.formats import read

        loaded = read(root)
        description = loaded.description()
        return Policy(build_model(description), loaded.variables, description, compute)
    checkpoint = native.find_checkpoint(root)
    description = native.read_description(checkpoint)
    return Policy(build_model(description), native.load_variables(checkpoint), description, compute)


def _is_native(root: pathlib.Path) -> bool:
    return (root / "variables" / "_METADATA").exists() or bool(native.list_checkpoints(root))

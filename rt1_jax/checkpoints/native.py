"""The native checkpoint: a directory that holds everything needed to use the policy.

    config.json   format and version, model and its config, action spec, language encoder with the
                  vector of one fixed sentence, embedding statistics, tensors, step, versions
    variables/    Orbax: the averaged params and batch_stats, all that inference reads
    adam/         Orbax: Adam's moments of a converted training checkpoint, {"first", "second"} in
                  the structure of params (only where the source had them)
    training/     Orbax: the whole train state (only in a run's own checkpoints)
    iterator.json the data iterator's position (likewise)

It is written under a temporary name and renamed when whole. A run keeps its checkpoints in
`WORKDIR/checkpoints/STEP`; wherever a checkpoint is asked for, a run's directory means its newest.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.location import CheckpointError as CheckpointError
from rt1_jax.checkpoints.location import resolve
from rt1_jax.files import write_atomically
from rt1_jax.language import EmbeddingStatistics, EncoderIdentity

FORMAT = "rt1_jax"
VERSION = 1


@dataclasses.dataclass
class PolicyDescription:
    """All of a policy but its weights.

    Attributes:
      architecture: a key of `rt1_jax.models.registry`, such as "rt1".
      model: the model config as JSON.
      action_spec: bounds, bins and order of the actions.
      encoder: which language encoder the policy was trained with.
      embedding_statistics: how embeddings are standardised before the model, if they are.
      image_size: (h, w) of the frames that it was trained on.
      frame_rate: steps a second of the training data; 0 where it is not known.
      step: optimiser steps.
      source: how it came to be, for people.
    """

    architecture: str
    model: dict[str, Any]
    action_spec: ActionSpec
    encoder: EncoderIdentity
    embedding_statistics: EmbeddingStatistics | None
    image_size: tuple[int, int]
    frame_rate: float
    step: int
    source: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        statistics = self.embedding_statistics
        return {
            "architecture": self.architecture,
            "model": self.model,
            "action_spec": self.action_spec.to_json(),
            "encoder": self.encoder.to_json(),
            "embedding_statistics": None if statistics is None else statistics.to_json(),
            "image_size": list(self.image_size),
            "frame_rate": self.frame_rate,
            "step": self.step,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PolicyDescription:
        statistics = data["embedding_statistics"]
        height, width = data["image_size"]
        return cls(
            architecture=data["architecture"],
            model=data["model"],
            action_spec=ActionSpec.from_json(data["action_spec"]),
            encoder=EncoderIdentity.from_json(data["encoder"]),
            embedding_statistics=(
                None if statistics is None else EmbeddingStatistics.from_json(statistics)
            ),
            image_size=(int(height), int(width)),
            frame_rate=float(data["frame_rate"]),
            step=int(data["step"]),
            source=data["source"],
        )


def save_checkpoint(
    directory: str | os.PathLike[str],
    description: PolicyDescription,
    variables: Any,
    *,
    moments: AdamMoments | None = None,
    training: Any = None,
    iterator: dict[str, Any] | None = None,
) -> None:
    """Writes a checkpoint; it appears under its name only when it is whole.

    Args:
      directory: must not exist yet.
      description: see there.
      variables: {"params", "batch_stats"} for inference.
      moments: Adam's state of a training that is continued elsewhere; see `load_adam_moments`.
      training: the train state, to resume from.
      iterator: the data iterator's position.
    """
    writing = begin_checkpoint(directory, variables, training, moments)
    writing.finish(checkpoint_config(description, variables, moments), iterator)


@dataclasses.dataclass
class Writing:
    """A checkpoint whose arrays are being written in the background."""

    final: pathlib.Path
    checkpointers: list[Any]

    def finish(self, config: dict[str, Any], iterator: dict[str, Any] | None) -> None:
        """Waits for the arrays of all processes; process 0 adds the rest and renames it."""
        try:
            for checkpointer in self.checkpointers:
                checkpointer.wait_until_finished()
        finally:
            for checkpointer in self.checkpointers:
                checkpointer.close()
        if jax.process_index():
            return
        temporary = partial_name(self.final)
        if iterator is not None:
            write_atomically(temporary / "iterator.json", json.dumps(iterator))
        write_atomically(temporary / "config.json", json.dumps(config, indent=1))
        os.replace(temporary, self.final)


def begin_checkpoint(
    directory: str | os.PathLike[str],
    variables: Any,
    training: Any = None,
    moments: AdamMoments | None = None,
) -> Writing:
    """Begins what `save_checkpoint` does; returns when the arrays are off the devices.

    Every process of a run calls it with its part of the arrays, in a directory that all see.
    """
    final = pathlib.Path(directory).absolute()
    if final.exists():
        raise CheckpointError(f"{final} exists already: remove it or choose another name")
    temporary = partial_name(final)
    failed: OSError | None = None
    if jax.process_index() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
        except OSError as error:
            failed = error
    if jax.process_count() > 1:  # the others neither come too early nor wait in vain
        from jax.experimental import multihost_utils

        made = multihost_utils.broadcast_one_to_all(np.int32(failed is None))
        if not made and failed is None:
            raise CheckpointError(f"process 0 could not make {temporary}: its output says why")
    if failed is not None:
        raise CheckpointError(f"{temporary} could not be made: {failed}") from failed
    items = {"variables": _unboxed(variables)}
    if moments is not None:
        items["adam"] = {"first": moments.first, "second": moments.second}
    if training is not None:
        items["training"] = training
    writing = Writing(final, [])
    for name, tree in items.items():
        writing.checkpointers.append(_checkpointer())
        writing.checkpointers[-1].save(temporary / name, tree)
    return writing


def partial_name(final: pathlib.Path) -> pathlib.Path:
    """Where a checkpoint is until it is whole."""
    return final.with_name(f".{final.name}.partial")


def checkpoint_config(
    description: PolicyDescription, variables: Any, moments: AdamMoments | None = None
) -> dict[str, Any]:
    """The content of `config.json`."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        **description.to_json(),
        "tensors": _tensor_shapes(variables),
        "libraries": library_versions(),
    }
    if moments is not None:
        content["adam"] = {
            "iterations": moments.iterations,
            "learning_rate": moments.learning_rate,
        }
    return content


def find_checkpoint(path: str | os.PathLike[str]) -> pathlib.Path:
    """The checkpoint that a path means: itself, or the newest of a run's directory.

    Args:
      path: a checkpoint, a run's directory or the name of a shipped policy.

    Raises:
      CheckpointError: there is none, or the path is a URL.
    """
    root = resolve(path).absolute()
    if (root / "variables").is_dir():
        return root
    steps = list_checkpoints(root)
    if not steps:
        raise CheckpointError(
            f"no checkpoint at {root}: expected a checkpoint directory (config.json, variables/) "
            "or a run's directory with checkpoints/STEP in it"
        )
    return root / "checkpoints" / str(steps[-1])


def list_checkpoints(workdir: str | os.PathLike[str]) -> list[int]:
    """Steps of the whole checkpoints of a run, oldest first."""
    root = pathlib.Path(workdir) / "checkpoints"
    if not root.is_dir():
        return []
    return sorted(int(p.name) for p in root.iterdir() if p.name.isdigit() and p.is_dir())


def read_description(directory: str | os.PathLike[str]) -> PolicyDescription:
    """Reads `config.json` of a checkpoint directory.

    Raises:
      CheckpointError: missing, unreadable, of a newer version, or lacking a key.
    """
    return PolicyDescription.from_json(_read_config(pathlib.Path(directory)))


def load_variables(directory: str | os.PathLike[str]) -> Any:
    """The inference variables as NumPy arrays, checked against the tensors that config.json lists.

    Raises:
      CheckpointError: a tensor is missing, of another shape, or cannot be read.
    """
    root = pathlib.Path(directory).absolute()
    expected = _read_config(root)["tensors"]
    variables = _restore(root / "variables", None)
    _check_shapes(root, variables, expected)
    return variables


def load_adam_moments(directory: str | os.PathLike[str]) -> AdamMoments | None:
    """Adam's state of a converted training checkpoint, or None where it has none.

    Raises:
      CheckpointError: a moment is missing, of another shape than its parameter, or unreadable.
    """
    root = pathlib.Path(directory).absolute()
    content = _read_config(root)
    adam = content.get("adam")
    if adam is None:
        return None
    tree = _restore(root / "adam", None)
    params = {k: v for k, v in content["tensors"].items() if k.startswith("params/")}
    for moment in ("first", "second"):
        _check_shapes(root / "adam" / moment, {"params": tree.get(moment, {})}, params)
    return AdamMoments(tree["first"], tree["second"], adam["iterations"], adam["learning_rate"])


def load_training(directory: str | os.PathLike[str], like: Any) -> tuple[Any, dict[str, Any]]:
    """The train state in the structure and sharding of `like`, and the iterator's position."""
    root = pathlib.Path(directory).absolute()
    if not (root / "training").is_dir():
        raise CheckpointError(f"{root} holds no training state: it can be used, not resumed from")
    state = _restore(root / "training", like)
    path = root / "iterator.json"
    return state, json.loads(path.read_text()) if path.exists() else {}


def _read_config(root: pathlib.Path) -> dict[str, Any]:
    path = root / "config.json"
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise CheckpointError(f"{root} has no readable config.json ({error})") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error})") from error
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of a native checkpoint (no format {FORMAT!r})")
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} is of version {content.get('version')}, this code reads {VERSION}: "
            "update rt1_jax"
        )
    keys = {field.name for field in dataclasses.fields(PolicyDescription)} | {"tensors"}
    if keys - set(content):
        raise CheckpointError(f"{path} lacks {sorted(keys - set(content))}")
    return content


def _check_shapes(where: pathlib.Path, tree: Any, expected: dict[str, str]) -> None:
    found = _tensor_shapes(tree)
    if found != expected:
        wrong = sorted(k for k in set(found) | set(expected) if found.get(k) != expected.get(k))
        first = wrong[0]
        raise CheckpointError(
            f"{where}: {len(wrong)} tensors disagree with config.json; the first is {first!r}: "
            f"found {found.get(first, 'nothing')}, expected {expected.get(first, 'nothing')}"
        )


def _restore(path: pathlib.Path, like: Any) -> Any:
    import orbax.checkpoint as ocp

    try:
        with _checkpointer() as orbax:
            if like is None:
                # NumPy arrays stay on the host: as JAX arrays each would be staged by a program of
                # its own, a hundred to compile for RT-1.
                tree = orbax.metadata(path).item_metadata.tree
                return orbax.restore(path, jax.tree.map(lambda m: np.empty(m.shape, m.dtype), tree))
            target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
            return orbax.restore(path, target)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be restored: {reason}") from error


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp

    return ocp.StandardCheckpointer()


def _unboxed(variables: Any) -> Any:
    import flax.linen as nn

    return nn.meta.unbox(variables)


def _tensor_shapes(variables: Any) -> dict[str, str]:
    """{"params/a/kernel": "float32[3, 4]"}."""
    paths = jax.tree_util.tree_leaves_with_path(variables)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in paths
    }


def library_versions() -> dict[str, str]:
    """Of what a checkpoint was made with."""
    import importlib.metadata

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {name: importlib.metadata.version(name) for name in names}

"""Starting from another training's checkpoint, for the same task or for another.

A tensor is reused where a tensor of its name and shape is in the checkpoint, and so are all tensors
beside it in its layer: a bias is worth nothing with another kernel. Tensors that tell places of the
sequence or tokens of the action apart are adapted: see `rt1_jax.training.token_places`. All else is
fresh, and the report says why. What would not be noticed is refused: another architecture, another
language encoder, conventions by which the same weights compute something else.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
from flax import traverse_util

from rt1_jax.checkpoints import formats, native
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.native import PolicyDescription
from rt1_jax.language import EmbeddingStatistics, EncoderMismatchError, check_same_encoder
from rt1_jax.models import registry
from rt1_jax.training.config_keys import flatten
from rt1_jax.training.start_report import StartReport, State, TensorReport
from rt1_jax.training.token_places import adapt, spec_notes

_OUTPUTS = ("output_tokens", "heads", "values", "action_embedding", "head_")
"""Beginnings of the names of top-level parts that another action spec replaces."""
_CONVENTIONS = (
    "padding",
    "batch_norm_epsilon",
    "normalization",
    "masks",
    "film",
    "decoding",
    "readout",
    "feed_forward",
)
"""Last components of config keys by which the same tensors compute something else."""


class FineTuningError(ValueError):
    """A checkpoint that this run cannot start from; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Start:
    """A checkpoint to start from.

    Attributes:
      path, format: where it is and of what kind, see `rt1_jax.checkpoints.formats`.
      description: all of the policy but its weights.
      variables: {"params", "batch_stats"}, NumPy arrays; of a native run the averaged ones.
      moments: Adam's state, of a converted training checkpoint.
    """

    path: pathlib.Path
    format: str
    description: PolicyDescription
    variables: dict[str, Any]
    moments: AdamMoments | None

    def __str__(self) -> str:
        run = self.path.parents[1].name if self.path.parent.name == "checkpoints" else ""
        name = f"{run}/checkpoints/{self.path.name}" if run else self.path.name
        return f"{name} ({self.format}, step {self.description.step:,})"


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """What the new run begins with.

    Attributes:
      variables: {"params", "batch_stats"}: NumPy arrays where they are the checkpoint's.
      statistics: that the embeddings are to be standardised with, or None for none: the
        checkpoint's own where a tensor that reads the instruction is reused, since to that the
        data's would be another space; the data's otherwise.
      report: what is reused.
    """

    variables: dict[str, Any]
    statistics: EmbeddingStatistics | None
    report: StartReport


def read_start(path: str | os.PathLike[str]) -> Start:
    """Reads a checkpoint of any supported format; of a run's directory the newest.

    Raises:
      CheckpointError: nothing there, or something that cannot be read.
    """
    kind = formats.detect_format(path)
    if kind == "native":
        root = native.find_checkpoint(path)
        return Start(
            root,
            kind,
            native.read_description(root),
            native.load_variables(root),
            native.load_adam_moments(root),
        )
    loaded = formats.read(path)
    return Start(
        pathlib.Path(path),
        kind,
        loaded.description(),
        loaded.variables,
        loaded.optimizer_moments,
    )


def with_start(variables: dict[str, Any], start: Start, run: PolicyDescription) -> FineTuned:
    """The new model's variables, with all of the checkpoint's in them that has a place there.

    Args:
      variables: {"params", "batch_stats"}, freshly initialised. Only what stays fresh is read.
      start: see `read_start`.
      run: what the new run will write of itself: architecture, model, action spec, encoder, and as
        embedding_statistics the data's.

    Raises:
      FineTuningError: another architecture or encoder, conventions that differ, or a part of which
        nothing fits.
    """
    old, new = _configs(start, run)
    _check_encoder(start, run)
    differing = _differences(old, new)
    _check_conventions(start, differing)
    stored = _flat(start.variables)
    wanted = _flat(variables)
    result, tensors = {}, []
    # A tensor that the checkpoint lacks, such as a bias that begins at zero, spares its layer.
    misfits = {_layer(p): p for p in wanted if p in stored and _misfit(stored[p], wanted[p])}
    for path, fresh in wanted.items():
        name = "/".join(path)
        value, why = stored.get(path), ""
        state: State = "reused"
        adapted = adapt(path, value, fresh, (old, start.description), (new, run))
        if adapted is not None:
            result[path], why = adapted
            state = "adapted"
        elif value is None or _layer(path) in misfits:
            result[path], state = fresh, "fresh"
            why = _misfit(value, fresh) or f"as is its {misfits[_layer(path)][-1]}"
        else:
            result[path] = np.asarray(value).astype(fresh.dtype, copy=False)
        tensors.append(TensorReport(name, fresh.size, state, why))
    _check_parts(start, tensors, {p[1] for p in stored}, differing)
    listens = any(t.state == "reused" and _reads_instruction(t.path) for t in tensors)
    statistics = run.embedding_statistics
    notes = _notes(start.description, run, differing)
    if listens:
        statistics = start.description.embedding_statistics
        if not _same_statistics(statistics, run.embedding_statistics):
            what = "is given raw embeddings" if statistics is None else "has its own statistics"
            notes.append(
                f"the checkpoint {what}: instructions are prepared by them, not the data's"
            )
    report = StartReport(
        str(start),
        tuple(tensors),
        tuple("/".join(path) for path in stored if path not in wanted),
        tuple(notes),
    )
    return FineTuned(traverse_util.unflatten_dict(result), statistics, report)


def _configs(start: Start, run: PolicyDescription) -> tuple[Any, Any]:
    theirs, ours = start.description.architecture, run.architecture
    if theirs != ours:
        raise FineTuningError(
            f"start.checkpoint {start.path} is of architecture {theirs!r}, this run of {ours!r}: "
            "choose a checkpoint of the same, or the config that it was trained with"
        )
    return tuple(registry.build(d.architecture, d.model).config for d in (start.description, run))


def _check_encoder(start: Start, run: PolicyDescription) -> None:
    try:
        check_same_encoder(start.description.encoder, run.encoder)
    except EncoderMismatchError as error:
        reason = str(error).split(";")[0]
        raise FineTuningError(
            f"start.checkpoint {start.path} understands another encoder's embeddings than the data "
            f"holds: {reason}. Import the data with --encoder={start.description.encoder.name}, or "
            "start from a checkpoint of the data's encoder"
        ) from error


def _differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Config keys whose values differ: {key: (there, here)}."""
    theirs, ours = flatten(old.to_json()), flatten(new.to_json())
    keys = sorted({*theirs, *ours})
    return {k: (theirs.get(k), ours.get(k)) for k in keys if theirs.get(k) != ours.get(k)}


def _check_conventions(start: Start, differing: dict[str, tuple[Any, Any]]) -> None:
    wrong = {
        key: there
        for key, (there, here) in differing.items()
        if key.split(".")[-1] in _CONVENTIONS and None not in (there, here)
    }
    if wrong:
        flags = " ".join(f"--config.model.{key}={value}" for key, value in wrong.items())
        raise FineTuningError(
            f"start.checkpoint {start.path} computes by other conventions, so that its weights "
            f"would mean something else here: set {flags}"
        )


def _check_parts(
    start: Start, tensors: list[TensorReport], stored: set[str], differing: dict[str, Any]
) -> None:
    kept = {t.path.split("/")[1] for t in tensors if t.state != "fresh"}
    parts = sorted({t.path.split("/")[1] for t in tensors} - kept)
    lost = [part for part in parts if part in stored and not part.startswith(_OUTPUTS)]
    if lost:
        told = ", ".join(f"{k} is {a} there and {b} here" for k, (a, b) in differing.items())
        raise FineTuningError(
            f"start.checkpoint {start.path}: nothing of its {lost[0]} fits this model ({told})"
        )


def _notes(
    old: PolicyDescription, new: PolicyDescription, differing: dict[str, tuple[Any, Any]]
) -> list[str]:
    notes = spec_notes(old.action_spec, new.action_spec)
    if old.frame_rate and new.frame_rate and old.frame_rate != new.frame_rate:
        notes.append(f"{old.frame_rate:g} steps a second there, {new.frame_rate:g} here")
    notes += [f"model.{key} is {a} there, {b} here" for key, (a, b) in differing.items()]
    return notes


def _reads_instruction(path: str) -> bool:
    return any(part.startswith(("film", "instruction")) for part in path.split("/"))


def _same_statistics(a: EmbeddingStatistics | None, b: EmbeddingStatistics | None) -> bool:
    return a is b or (a is not None and b is not None and a.to_json() == b.to_json())


def _misfit(stored: Any, wanted: Any) -> str:
    if stored is None:
        return "not in the checkpoint"
    if stored.shape != wanted.shape:
        return f"shape {list(stored.shape)} there, {list(wanted.shape)} here"
    return ""


def _layer(path: tuple[str, ...]) -> tuple[str, ...]:
    """A layer's parameters and statistics, under one name; sequence places are each for itself."""
    return path if "position_embedding" in path else path[1:-1]


def _flat(variables: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    flat = traverse_util.flatten_dict(
        {name: variables.get(name, {}) for name in ("params", "batch_stats")}
    )
    return dict(sorted(flat.items(), key=lambda item: (item[0][0] != "params", item[0])))

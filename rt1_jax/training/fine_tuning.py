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

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from rt1_jax.checkpoints import formats, native
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.native import CheckpointError, PolicyDescription
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
        return f"{self.path.name} ({self.format}, step {self.description.step:,})"


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


def put_into(state: Any, variables: dict[str, Any]) -> Any:
    """The train state with these variables as its parameters, statistics and their average.

    Every array gets the sharding that it has in `state`; all buffers are new, so that the state may
    be donated.
    """
    like = {"params": state.params, "batch_stats": state.batch_stats}
    here = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    first, second = jax.tree.map(_placed, here, like), jax.tree.map(_placed, here, state.average)
    return state.replace(params=first["params"], batch_stats=first["batch_stats"], average=second)


def continue_optimizer(state: Any, start: Start, report: StartReport) -> Any:
    """The train state with the optimiser's moments of the checkpoint too (`reset_optimizer=False`).

    Schedules begin anew. Of a native run the parameters that it trained go on, rather than their
    average, and the average beside them.

    Args:
      state: of the same model and optimiser, with the checkpoint's variables in it (`put_into`).
      start, report: see `with_start`.

    Raises:
      FineTuningError: not everything is reused, the checkpoint has no moments, or they are of
        another optimiser or of other parameters.
    """
    if not report.everything_reused:
        names = report.of("fresh") + report.of("adapted")
        raise FineTuningError(
            f"start.reset_optimizer is False, but {len(names)} tensors are not "
            f"{start.path.name}'s, the first is {names[0]!r}: the optimiser's moments belong to "
            "its tensors; set --config.start.reset_optimizer=True"
        )
    hint = "set --config.start.reset_optimizer=True"
    if start.moments is not None:
        try:
            opt_state = start.moments.put_into(state.opt_state)
        except ValueError as error:
            raise FineTuningError(f"{start.path}: {error}; or {hint}") from error
        return state.replace(opt_state=_like(opt_state, state.opt_state))
    if not (start.path / "training").is_dir():
        raise FineTuningError(f"{start.path} holds no state of an optimiser: {hint}")
    try:
        before, _ = native.load_training(start.path, state)
    except CheckpointError as error:
        raise FineTuningError(
            f"{start.path} was trained with another optimiser, or with other parts frozen "
            f"({error}): {hint}"
        ) from error
    opt_state = _with_schedules_of(before.opt_state, state.opt_state)
    return state.replace(
        params=before.params,
        batch_stats=before.batch_stats,
        average=before.average,
        opt_state=opt_state,
    )


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


def _placed(value: Any, like: Any) -> jax.Array:
    """A new array of that value with the sharding of another."""
    if isinstance(value, jax.Array):
        return jnp.copy(jax.device_put(value, like.sharding))
    value = np.asarray(value, like.dtype)
    return jax.make_array_from_callback(value.shape, like.sharding, lambda i: value[i].copy())


def _like(tree: Any, like: Any) -> Any:
    return jax.tree.map(_placed, tree, like)


def _with_schedules_of(old: Any, fresh: Any) -> Any:
    """An optimiser state whose schedules stand where a fresh one's do."""
    import optax

    is_schedule = lambda node: isinstance(node, optax.ScaleByScheduleState)
    return jax.tree.map(lambda a, b: b if is_schedule(a) else a, old, fresh, is_leaf=is_schedule)

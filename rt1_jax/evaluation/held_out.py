"""Which episodes of a dataset are compared with, and which of them the policy was trained on."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from rt1_jax.checkpoints.location import resolve
from rt1_jax.evaluation.episodes import EvaluationError


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Episodes first, first + 1, ..., first + count - 1 of a dataset's total."""

    first: int
    count: int
    total: int

    @property
    def last(self) -> int:
        return self.first + self.count - 1


def choose(total: int, episodes: int | None, held_out: int | None) -> Chosen:
    """The first `episodes` of a dataset, or of its last `held_out`; None stands for all.

    Raises:
      EvaluationError: there are not as many, or none is asked for.
    """
    if held_out is not None and not 0 < held_out <= total:
        raise EvaluationError(
            f"--held_out={held_out}: the dataset has {total} episodes, expected 1 to {total}, "
            "those that data.validation_episodes held out at its end"
        )
    if episodes is not None and episodes < 1:
        raise EvaluationError("nothing to evaluate: --episodes must be at least 1")
    there = held_out or total
    return Chosen(total - there, min(episodes or there, there), total)


def read_run_config(checkpoint: str | os.PathLike[str]) -> dict[str, Any]:
    """The config of the run that a checkpoint or a run's directory belongs to; {} if not there."""
    path = resolve(checkpoint)
    for root in (path, path.parent.parent):
        try:
            config = json.loads((root / "config.json").read_text())
        except (OSError, ValueError):
            continue
        if "validation_episodes" in (config.get("data") or {}):  # a checkpoint's has none
            return dict(config)
    return {}


def describe_training(
    chosen: Chosen, dataset: Any, trained: dict[str, Any], run: dict[str, Any]
) -> dict[str, Any] | None:
    """What is known of the chosen episodes' part in the training.

    Args:
      chosen: which episodes.
      dataset: `source` of the dataset's description, how it was made.
      trained: `source` of the policy's description, with that of its data.
      run: the run's config, or {}.

    Returns:
      None where the policy was trained on other data, or where that cannot be told; else
      {"trained_on": the largest number of them that was, or None if not known, "note": a sentence}.
    """
    data: Any = trained.get("data") or {}
    mixture = isinstance(data, list)
    parts = data if mixture else [data]
    if not dataset or dataset not in [_without_weight(part) for part in parts]:
        return None
    options = run.get("data", {})
    if not options:
        return {
            "trained_on": None,
            "note": "The policy was trained on this dataset. Which episodes were held out is known "
            "where its run's directory is.",
        }
    held_out = int(options["validation_episodes"])
    cut = chosen.total - held_out
    some = options.get("episodes", 0) > 0 or options.get("tasks", 1.0) < 1
    if not (mixture or some) and trained.get("episodes") != cut:
        return None  # made alike, but not of the same size
    count = min(max(cut - chosen.first, 0), chosen.count)
    return {"trained_on": count, "note": _note(chosen, count, held_out, some)}


def _without_weight(source: dict[str, Any]) -> dict[str, Any]:
    """How a dataset was made; in a mixture its weight stands beside that."""
    return {key: value for key, value in source.items() if key != "weight"}


def _note(chosen: Chosen, trained: int, held_out: int, some: bool) -> str:
    here = f"Episodes {chosen.first:,} to {chosen.last:,}"
    if not trained:
        return f"{here}: held out from the policy's training."
    which = "them" if trained == chosen.count else f"those up to {chosen.first + trained - 1:,}"
    note = f"{here}: the policy was trained on {'a part of ' if some else ''}{which}."
    if held_out:
        return f"{note} --held_out={held_out} compares with the held-out ones alone."
    return f"{note} None was held out."

"""`results.json`: everything that was measured, for programs.

    format            "rt1_jax.results"            version   1
    created           UTC, ISO 8601                seconds   of the whole evaluation
    checkpoint        name, step, architecture, parameters, source (how the checkpoint came to be)
    machine           platform, processor cores, backend, versions of what was used
    definitions       what each number means and how it is averaged, in words
    closed_loop       environment, tasks {split: skills}, episodes_per_split, seed, slots,
                      image_size; summary {condition: {split: {skill or "all": numbers}}} (see
                      metrics.summarize); episodes, one object each, in plan order (see
                      EpisodeResult)
    offline           dataset, embeddings ("stored" or "embedded anew"), first_episode, training
                      (what the policy has seen of these episodes: held_out.describe_training), and
                      the numbers of offline.evaluate_offline

`closed_loop` or `offline` is null where it was not asked for.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import rt1_jax
from rt1_jax.evaluation import metrics, offline
from rt1_jax.evaluation.episodes import EpisodeResult
from rt1_jax.files import write_atomically

FORMAT = "rt1_jax.results"
VERSION = 1


def build_results(
    *,
    checkpoint: dict[str, Any],
    seconds: float,
    closed_loop: dict[str, Any] | None = None,
    episodes: Sequence[EpisodeResult] = (),
    offline_numbers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Assembles the content of `results.json`, as the module's text says.

    Args:
      checkpoint: what was evaluated.
      seconds: how long the evaluation took.
      closed_loop: the settings of the rollouts; summary and episodes are added.
      episodes: their results.
      offline_numbers: of `evaluate_offline`.
    """
    definitions: dict[str, str] = {}
    if closed_loop is not None:
        definitions |= metrics.DEFINITIONS
        closed_loop = {
            **closed_loop,
            "summary": metrics.summarize_groups(episodes),
            "episodes": [episode.to_json() for episode in episodes],
        }
    if offline_numbers is not None:
        definitions |= offline.DEFINITIONS
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "checkpoint": checkpoint,
        "machine": describe_machine(),
        "definitions": definitions,
        "closed_loop": closed_loop,
        "offline": offline_numbers,
    }


def write_results(path: str | os.PathLike[str], results: dict[str, Any]) -> None:
    """Writes `results.json`; it is whole or not there."""
    write_atomically(path, json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def describe_machine() -> dict[str, Any]:
    """Platform, Python, cores, JAX backend, and versions of what was used."""
    import jax

    names = ("jax", "flax", "mujoco", "numpy")
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "backend": jax.default_backend(),
        "versions": {"rt1_jax": rt1_jax.__version__, **{n: metadata.version(n) for n in names}},
    }

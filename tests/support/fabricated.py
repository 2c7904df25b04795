"""Directories of finished runs as sweeps leave them, with made-up successes."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import numpy as np

from rt1_jax.analysis.sweep import Run
from rt1_jax.evaluation.episodes import EpisodeResult, plan_episodes
from rt1_jax.evaluation.metrics import summarize_groups

OBJECTS = ("orange can", "green can", "red can", "blue can")


def write_run(
    root: pathlib.Path,
    run: Run,
    successes: Callable[[str, str], int],
    parameters: int = 173_544,
    step_ms: float = 0.7,
) -> None:
    """One finished run; `successes` of a split and a condition, spread over its episodes."""
    plan = plan_episodes(
        tasks=dict.fromkeys(run.splits, run.skills),
        episodes=run.episodes,
        seed=0,
        controls=run.controls,
    )
    order = np.random.default_rng(run.config.seed).permutation(run.episodes)
    episodes = [
        EpisodeResult(
            request=request,
            instruction=f"pick the {OBJECTS[request.seed % len(OBJECTS)]}",
            told="pick the apple",
            success=bool(order[request.seed] < successes(request.split, request.condition)),
            steps=20,
            first_terminate=None,
            goal_at_first_terminate=None,
        )
        for request in plan
    ]
    home = root / run.name
    (home / run.evaluation).mkdir(parents=True, exist_ok=True)
    summary = {"steps": 3_000, "seconds": 288.1, "loss": 1.7, "validation_loss": 1.8}
    training = {"summary": summary | {"parameters": parameters}, "step_ms": step_ms}
    (home / "training.json").write_text(json.dumps(training))
    closed_loop = {
        "episodes_per_split": run.episodes,
        "summary": summarize_groups(episodes),
        "episodes": [episode.to_json() for episode in episodes],
    }
    (home / run.evaluation / "results.json").write_text(json.dumps({"closed_loop": closed_loop}))

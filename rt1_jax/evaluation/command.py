"""What `eval.py` does with its flags."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rt1_jax
from rt1_jax.evaluation.environment import choose_tasks
from rt1_jax.evaluation.episodes import EvaluationError, plan_episodes
from rt1_jax.evaluation.held_out import read_run_config
from rt1_jax.evaluation.pool import RolloutError
from rt1_jax.evaluation.table import format_table

BAD_REQUEST, FAILED = 2, 1


def main(
    *,
    checkpoint: str,
    environment: str | None,
    splits: Sequence[str],
    skills: Sequence[str],
    episodes: int | None,
    seed: int | None,
    controls: Sequence[str],
    processes: int,
    films: int,
    dataset: str | None,
    output: str,
    held_out: int | None = None,
    compute: str = "float32",
) -> int:
    """Evaluates, prints a table and where the report is; gives the exit code.

    Returns:
      0; 2 where something asked for is not there or does not fit (one line says what); 1 where an
      environment process failed.
    """
    if environment is None and dataset is None:
        environment = "tabletop"
    try:
        if held_out is not None and dataset is None:
            raise EvaluationError("--held_out is of recorded episodes: give --dataset, too")
        # Typing errors first: they should not wait for JAX and a checkpoint to load.
        wanted = 100 if episodes is None else episodes
        if environment is not None:
            tasks = choose_tasks(environment, splits, skills or ["all"])
            plan_episodes(tasks=tasks, episodes=wanted, seed=0, controls=controls)
        from rt1_jax.evaluation.run import (
            DEFAULT_SEED,
            ClosedLoop,
            Offline,
            evaluate,
            training_rows,
        )

        policy = rt1_jax.load_policy(checkpoint, compute=compute)
        closed_loop = None
        if environment is not None:
            closed_loop = ClosedLoop(
                environment,
                splits=tuple(splits),
                skills=tuple(skills) or _trained_skills(policy),
                episodes=wanted,
                seed=DEFAULT_SEED if seed is None else seed,
                controls=tuple(controls),
                processes=processes,
                films=films,
            )
        results = evaluate(
            policy,
            checkpoint,
            output,
            closed_loop=closed_loop,
            recorded=None if dataset is None else Offline(dataset, episodes, held_out),
            run_config=read_run_config(checkpoint),
            training=training_rows(checkpoint),
            progress=sys.stderr.isatty(),
        )
    except RolloutError as error:
        details = "".join(getattr(error, "__notes__", []))
        print(f"{details}eval.py: {error}", file=sys.stderr)
        return FAILED
    except (ValueError, OSError) as error:
        print(f"eval.py: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_REQUEST
    print(format_table(results))
    print(f"\n{results['seconds']:.0f} s; report: {Path(output) / 'report.html'}")
    return 0


def _trained_skills(policy: Any) -> tuple[str, ...]:
    """The skills in the policy's training data, where its checkpoint tells them."""
    data = policy.description.source.get("data") or {}
    return tuple(data.get("skills") or ("all",))

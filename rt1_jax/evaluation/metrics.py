"""Episodes -> numbers with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rt1_jax.evaluation.episodes import ALL_SKILLS, EpisodeResult

_Z95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution

DEFINITIONS = {
    "success": "The environment's physical goal was reached and held; the policy's own terminate "
    "action has no say. Success rate is successful episodes over all episodes, each episode "
    "counting once; a split's total counts each of its episodes once, whatever the skill.",
    "interval": "Wilson score interval, 95%, two-sided, for the success rate.",
    "steps": "Control steps until the goal was held or the step limit came; the mean is over "
    "successful episodes only.",
    "terminate_accuracy": "Of the successful episodes, the share in which the policy's first "
    "terminate action came at a step after which the goal physically held. Successful episodes "
    "without any terminate action count against it.",
    "premature_terminate": "Of all episodes, the share in which the policy's first terminate "
    "action came at a step after which the goal did not hold. The episode runs on regardless.",
    "wrong_instruction": "Control: the same policy in the same scenes, told another valid "
    "instruction for that scene; success is still judged by the scene's own task. It must fall "
    "far below the policy, or the language is not used.",
    "expert": "Control: the scripted expert, which sees the physical state, in the same scenes. "
    "The ceiling.",
}


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95% score interval for a proportion (Wilson 1927), in [0, 1]; (0, 1) without trials.

    Raises:
      ValueError: unless 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    rate, spread = successes / trials, _Z95**2 / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (rate * (1 - rate) + spread / 4)) / (1 + spread)
    # Exact at the ends, where rounding would leave 1e-17.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def summarize(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Numbers of a group of episodes, as `DEFINITIONS` says. Empty groups give None for rates."""
    successes = [r for r in results if r.success]
    on_time = [r for r in successes if r.goal_at_first_terminate]
    premature = [r for r in results if r.goal_at_first_terminate is False]
    silent = [r for r in results if r.first_terminate is None]
    return {
        "episodes": len(results),
        "successes": len(successes),
        "success_rate": _share(len(successes), len(results)),
        "interval": list(wilson_interval(len(successes), len(results))),
        "mean_steps_of_successes": _mean(r.steps for r in successes),
        "mean_steps": _mean(r.steps for r in results),
        "terminate_accuracy": _share(len(on_time), len(successes)),
        "premature_terminate_rate": _share(len(premature), len(results)),
        "no_terminate_rate": _share(len(silent), len(results)),
    }


def summarize_groups(
    results: Sequence[EpisodeResult],
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """{condition: {split: {skill or "all": summary}}}, in the order of first appearance."""
    groups: dict[str, dict[str, dict[str, list[EpisodeResult]]]] = {}
    for result in results:
        request = result.request
        of_split = groups.setdefault(request.condition, {}).setdefault(request.split, {})
        of_split.setdefault(ALL_SKILLS, []).append(result)
        of_split.setdefault(request.skill, []).append(result)
    return {
        condition: {
            split: {skill: summarize(members) for skill, members in skills.items()}
            for split, skills in splits.items()
        }
        for condition, splits in groups.items()
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return sum(kept) / len(kept) if kept else None

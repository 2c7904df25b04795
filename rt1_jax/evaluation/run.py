"""A whole evaluation: rollouts, controls, offline numbers, `results.json` and `report.html`."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from rt1_jax.actions import TABLETOP, ActionSpec
from rt1_jax.checkpoints.location import resolve
from rt1_jax.evaluation import held_out, offline
from rt1_jax.evaluation.environment import (
    EnvironmentFactory,
    RegisteredEnvironment,
    choose_tasks,
)
from rt1_jax.evaluation.episodes import (
    EXPERT,
    POLICY,
    EpisodeResult,
    plan_episodes,
)
from rt1_jax.evaluation.film import Film, FilmShelf
from rt1_jax.evaluation.pool import EnvironmentPool
from rt1_jax.evaluation.report import write_report
from rt1_jax.evaluation.results import build_results, write_results
from rt1_jax.evaluation.rollout import DEFAULT_SLOTS, rollout

# Far from the seeds that data are generated with.
DEFAULT_SEED = 1_000_000_000
ACTION_SPECS = {"tabletop": TABLETOP}


@dataclasses.dataclass(frozen=True)
class ClosedLoop:
    """What to roll out.

    Attributes:
      environment: name, as in `rt1_jax.envs.ENVIRONMENTS`.
      splits: the environment's splits, or ("all",).
      skills: the skills, or ("all",).
      episodes: per split and condition, shared evenly among the skills.
      seed: of the first episode.
      controls: of "expert" and "wrong_instruction".
      processes: environment processes; results do not depend on it.
      slots: environments run at once, the policy's batch size.
      films: successes and failures to show for each split.
    """

    environment: str = "tabletop"
    splits: tuple[str, ...] = ("seen",)
    skills: tuple[str, ...] = ("all",)
    episodes: int = 100
    seed: int = DEFAULT_SEED
    controls: tuple[str, ...] = ()
    processes: int = 2
    slots: int = DEFAULT_SLOTS
    films: int = 2


@dataclasses.dataclass(frozen=True)
class Offline:
    """What to compare with recorded actions.

    Attributes:
      dataset: a dataset directory.
      episodes: only the first so many; None for all.
      held_out: only the last so many, as `data.validation_episodes` holds them out; None for all.
    """

    dataset: str
    episodes: int | None = None
    held_out: int | None = None


def evaluate(
    policy: Any,
    name: str,
    output: str | pathlib.Path,
    *,
    closed_loop: ClosedLoop | None = None,
    recorded: Offline | None = None,
    training: Sequence[dict[str, Any]] = (),
    run_config: dict[str, Any] | None = None,
    factory: EnvironmentFactory | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluates a policy and writes `output/results.json` and `output/report.html`.

    Args:
      policy: from `rt1_jax.load_policy`.
      name: what it is called in the report.
      output: directory, made if missing.
      closed_loop: rollouts to make, if any.
      recorded: a dataset to compare with, if any.
      training: rows of the training run's `metrics.jsonl`, for its curves.
      run_config: of the training run, to say which recorded episodes it has seen.
      factory: builds other environments than `rt1_jax.envs`' for the rollouts.
      progress: draw progress bars.

    Returns:
      the content of `results.json`.

    Raises:
      EvaluationError: an unknown split, skill or control, or action specs that do not fit.
      DatasetError: a dataset that is missing or damaged.
      RolloutError: an environment process failed.
    """
    started = time.perf_counter()
    settings: dict[str, Any] | None = None
    episodes: list[EpisodeResult] = []
    films: list[Film] = []
    spec: ActionSpec | None = None
    if closed_loop is not None:
        spec = ACTION_SPECS.get(closed_loop.environment, policy.action_spec)
        settings, episodes, films = _roll_out(policy, closed_loop, factory, progress)
    numbers = None
    if recorded is not None:
        numbers = _compare(policy, recorded, run_config or {}, progress)
    results = build_results(
        checkpoint=_describe(policy, name),
        seconds=time.perf_counter() - started,
        closed_loop=settings,
        episodes=episodes,
        offline_numbers=numbers,
    )
    directory = pathlib.Path(output)
    write_report(
        directory / "report.html",
        results,
        films=films,
        spec=spec,
        frame_rate=policy.description.frame_rate or 3.0,
        training=training,
    )
    write_results(directory / "results.json", results)
    return results


def training_rows(checkpoint: str) -> list[dict[str, Any]]:
    """Rows of the `metrics.jsonl` that belongs to a checkpoint, run or shipped policy, if any."""
    from rt1_jax.training.metrics import read_metrics

    path = resolve(checkpoint)
    for candidate in (path, path.parent.parent):
        if (candidate / "metrics.jsonl").is_file():
            return read_metrics(candidate)
    return []


def _roll_out(
    policy: Any, asked: ClosedLoop, factory: EnvironmentFactory | None, progress: bool
) -> tuple[dict[str, Any], list[EpisodeResult], list[Film]]:
    image_size = tuple(policy.description.image_size)
    if factory is None:
        tasks = choose_tasks(asked.environment, asked.splits, asked.skills)
        factory = RegisteredEnvironment(asked.environment, tasks, image_size)
        offline.check_same_fields(policy.action_spec, ACTION_SPECS[asked.environment])
    else:
        tasks = dict.fromkeys(asked.splits, asked.skills)
    plan = plan_episodes(
        tasks=tasks, episodes=asked.episodes, seed=asked.seed, controls=asked.controls
    )
    shelf = FilmShelf(asked.films)
    acting = [request for request in plan if request.condition != EXPERT]
    watching = [request for request in plan if request.condition == EXPERT]
    with (
        EnvironmentPool(factory, max(1, asked.processes)) as pool,
        tqdm.tqdm(total=len(plan), unit="episode", disable=not progress) as bar,
    ):
        tally = _Tally(bar)
        results = rollout(
            policy, acting, pool, slots=asked.slots, films=shelf, on_result=tally.count
        )
        for result in pool.run_experts(watching):
            tally.count(result)
            results.append(result)
    results.sort(key=lambda result: result.request.index)
    settings = {
        "environment": asked.environment,
        "tasks": {split: list(skills) for split, skills in tasks.items()},
        "episodes_per_split": asked.episodes,
        "seed": asked.seed,
        "slots": min(asked.slots, len(acting)),
        "image_size": list(image_size),
    }
    return settings, results, shelf.films()


class _Tally:
    """Keeps the progress bar and its running success rate."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._done = self._successes = 0

    def count(self, result: EpisodeResult) -> None:
        self._bar.update()
        if result.request.condition == POLICY:
            self._done += 1
            self._successes += result.success
            self._bar.set_postfix_str(f"policy {self._successes}/{self._done}", refresh=False)


def _compare(
    policy: Any, recorded: Offline, run_config: dict[str, Any], progress: bool
) -> dict[str, Any]:
    from rt1_jax.data.store import StepStore

    store = StepStore.open(recorded.dataset)
    offline.check_same_fields(policy.action_spec, store.action_spec)
    chosen = held_out.choose(len(store), recorded.episodes, recorded.held_out)
    part = store.select(slice(chosen.first, chosen.first + chosen.count))
    embeddings, origin = offline.embeddings_for(policy, part)
    with tqdm.tqdm(total=chosen.count, unit="episode", disable=not progress) as bar:
        numbers = offline.evaluate_offline(policy, part, embeddings, on_episode=bar.update)
    training = held_out.describe_training(
        chosen, store.description["source"], policy.description.source, run_config
    )
    return {
        "dataset": str(recorded.dataset),
        "embeddings": origin,
        "first_episode": chosen.first,
        "training": training,
        **numbers,
    }


def _describe(policy: Any, name: str) -> dict[str, Any]:
    description = policy.description
    leaves = jax.tree.leaves(policy.variables["params"])
    return {
        "name": name,
        "step": description.step,
        "architecture": description.architecture,
        "parameters": int(sum(np.size(leaf) for leaf in leaves)),
        "source": description.source,
    }

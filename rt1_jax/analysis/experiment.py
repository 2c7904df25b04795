"""What the experiments have in common: a preset, its data, its runs, and their tables."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from rt1_jax import figures
from rt1_jax.analysis.sweep import Finished, Missing, Run, run_sweep
from rt1_jax.analysis.variants import vary
from rt1_jax.evaluation.metrics import wilson_interval


class ExperimentError(ValueError):
    """An experiment that cannot be made, or has nothing to show."""


@dataclasses.dataclass(frozen=True)
class Rate:
    """Successes of some runs taken together.

    Attributes:
      successes, episodes: over all runs.
      seeds: each run's own rate.
    """

    successes: int
    episodes: int
    seeds: tuple[float, ...]

    @property
    def rate(self) -> float:
        return self.successes / self.episodes if self.episodes else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval over all episodes; it does not know how seeds differ."""
        return wilson_interval(self.successes, self.episodes)

    def text(self) -> str:
        """``72% [65%, 78%] (70, 74)``: rate, interval, each seed's rate in percent."""
        if not self.episodes:
            return "missing"
        low, high = self.interval
        seeds = ", ".join(f"{100 * seed:.0f}" for seed in self.seeds)
        return f"{self.rate:.0%} [{low:.0%}, {high:.0%}] ({seeds})"

    def to_json(self) -> dict[str, Any]:
        return {
            "successes": self.successes,
            "episodes": self.episodes,
            "rate": self.rate,
            "interval": self.interval,
            "seeds": self.seeds,
        }


def success(
    results: Iterable[Finished], split: str, condition: str = "policy", skill: str = "all"
) -> Rate:
    """Success of finished runs on a split, under a condition of the evaluation."""
    found = [result.summary(split, condition, skill) for result in results]
    return Rate(
        sum(numbers["successes"] for numbers in found),
        sum(numbers["episodes"] for numbers in found),
        tuple(numbers["success_rate"] for numbers in found),
    )


def rate_series(name: str, rates: Sequence[Rate]) -> figures.Series:
    """Rates with their intervals and each seed's own, to draw; empty where there is no episode."""
    ends = [rate.interval if rate.episodes else (np.nan, np.nan) for rate in rates]
    low, high = np.asarray(ends, float).reshape(-1, 2).T
    seeds = [rate.seeds if len(rate.seeds) > 1 else () for rate in rates]
    return figures.Series(name, [rate.rate for rate in rates], low, high, seeds)


def percent_axis(axes: Any) -> None:
    """The vertical axis of success rates: bars of 0% are seen, and a legend has room above."""
    axes.set(ylim=(-0.012, 1.2), ylabel="success rate")
    axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0%", "25%", "50%", "75%", "100%"))


def ranking(rates: dict[str, Rate], names: dict[str, str]) -> str:
    """``RT-1 94%, BC-Z 91%; missing: Gato``: the best first."""
    known = sorted((name for name in rates if rates[name].episodes), key=lambda n: -rates[n].rate)
    missing = [names.get(name, name) for name in rates if name not in known]
    told = ", ".join(f"{names.get(name, name)} {rates[name].rate:.0%}" for name in known)
    return told + (f"; missing: {', '.join(missing)}" if missing else "")


def training_config(preset: Any, model: str = "rt1", variant: str = "rt1", **data: Any) -> Any:
    """The training config of a model of the preset, its variant, on `data` (episodes, tasks)."""
    base = ConfigDict(preset.models[model].to_dict())
    _update(base, preset.train.to_dict())
    _update(base.data, data)
    return vary(base, variant) if variant != "rt1" else base


def seeded_runs(
    preset: Any,
    config: Any,
    splits: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Run]:
    """One run a seed (by default of the preset's), evaluated as the preset says."""
    runs = []
    for seed in seeds or preset.seeds:
        own = ConfigDict(config.to_dict())
        own.seed = seed
        runs.append(
            Run(
                own,
                tuple(splits or preset.evaluation.splits),
                tuple(preset.data.skills),
                preset.evaluation.episodes,
            )
        )
    return runs


def complete_runs(
    preset: Any, groups: dict[str, list[Run]], directory: pathlib.Path, progress: bool = True
) -> tuple[dict[str, list[Finished]], list[str]]:
    """Makes the data and all runs; gives the finished ones by group, and a note on each other.

    Raises:
      ExperimentError: the data cannot be made, or no run came to its end.
    """
    ensure_data(preset.data, progress)
    flat = [(name, run) for name, runs in groups.items() for run in runs]
    # A model is compiled once for all its seeds, if they do not start at the same time.
    flat.sort(key=lambda item: int(item[1].config.seed))
    done = run_sweep(
        [run for _, run in flat], directory, parallel=preset.parallel, progress=progress
    )
    finished: dict[str, list[Finished]] = {name: [] for name in groups}
    notes = []
    for (name, run), result in zip(flat, done, strict=True):
        if isinstance(result, Missing):
            log = directory / run.name / "log.txt"
            notes.append(f"{name}, seed {run.config.seed}, is missing: {result.reason} ({log})")
        else:
            finished[name].append(result)
    if not any(finished.values()):
        raise ExperimentError("no run came to its end: " + "; ".join(notes))
    return finished, notes


def step_times(finished: dict[str, list[Finished]], directory: pathlib.Path) -> dict[str, float]:
    """Milliseconds that the first policy of each group takes for a step, taking turns."""
    from rt1_jax.analysis.timing import interleaved_milliseconds
    from rt1_jax.policies.load import load_policy

    policies = {n: load_policy(directory / of[0].run.name) for n, of in finished.items() if of}
    return interleaved_milliseconds(policies)


def ensure_data(data: Any, progress: bool = True) -> None:
    """Generates the preset's dataset where it is not there yet (or only a part of it).

    Raises:
      ExperimentError: the directory holds another dataset, or generating it failed.
    """
    path = pathlib.Path(data.directory) / "dataset.json"
    if path.exists():
        try:
            held = json.loads(path.read_text())
            found = (held["episodes"], tuple(held["image_size"]))
            source = dict(held.get("source", {}))
        except (ValueError, KeyError, TypeError) as error:
            raise ExperimentError(
                f"{path} is damaged ({error!r}): remove {data.directory}"
            ) from None
        needed = (data.episodes, tuple(data.image_size))
        if found != needed:
            _refuse(data.directory, _told(*found), _told(*needed))
        # What the generator recorded; data that were made in another way have none of it.
        for key, value in _generated(data).items():
            if source.get(key, value) != value:
                _refuse(data.directory, f"data of {key} {source[key]!r}", f"{value!r}")
        return
    height, width = data.image_size
    # A process of its own: rendering and the libraries of training do not go together.
    command = [
        sys.executable, "-m", "rt1_jax.data.generate", "--env=tabletop", "--split=seen",
        f"--episodes={data.episodes}", f"--output={data.directory}",
        f"--skills={','.join(data.skills)}", f"--image_size={height},{width}",
        f"--seed={data.seed}",
    ]  # fmt: skip
    # Its progress is shown as it comes; without, its last words are kept for the error.
    keep = None if progress else subprocess.PIPE
    done = subprocess.run(command, check=False, stdout=keep, stderr=keep, text=True)
    if done.returncode:
        words = (done.stderr or "").strip().splitlines()
        reason = words[-1] if words else f"it ended with status {done.returncode}"
        raise ExperimentError(f"making {data.directory} failed: {reason} ({shlex.join(command)})")


def _generated(data: Any) -> dict[str, Any]:
    """What the preset asks the generator for beside size, as `dataset.json` records it."""
    return {"env": "tabletop", "split": "seen", "skills": list(data.skills), "seed": data.seed}


def _refuse(directory: str, found: str, needed: str) -> None:
    raise ExperimentError(
        f"{directory} holds {found}, the preset needs {needed}: remove it, or name another "
        "directory by --config.data.directory and --config.train.data.directory"
    )


def _told(episodes: int, image_size: tuple[int, int]) -> str:
    return f"{episodes:,} episodes of {image_size[0]} x {image_size[1]} pixels"


def main(
    name: str, description: str, analyse: Callable[[Any, pathlib.Path, pathlib.Path], Any]
) -> None:
    """The command line of an experiment.

    Args:
      name: the experiment's.
      description: for the help.
      analyse: called with the preset, the output directory and the directory of runs; gives the
        content of `results.json`.
    """
    config = config_flags.DEFINE_config_file("config", "configs/experiments.py:small", "A preset.")
    output = flags.DEFINE_string("output", f"out/{name}", "Directory of figures and report.")
    runs = flags.DEFINE_string("runs", "runs/experiments", "Directory of runs; they are shared.")

    def run(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments {argv[1:]}")
        logging.set_verbosity(logging.WARNING)
        directory = pathlib.Path(str(output.value))
        try:
            content = analyse(config.value, directory, pathlib.Path(str(runs.value)))
        except (ValueError, OSError) as error:
            sys.exit(f"{name}: {' '.join(str(error).split())}")
        print("\n".join([*content["summary"], *content["notes"]]))
        print(f"report: {directory / 'report.html'}")

    app.run(run, argv=[f"{name}: {description}", *sys.argv[1:]])


def _update(config: ConfigDict, changes: dict[str, Any]) -> None:
    """Sets leaves of nested dicts, each of which must be there already."""
    for key, value in changes.items():
        if key not in config:
            raise ExperimentError(f"a training config has no key {key!r}")
        if isinstance(value, dict):
            _update(config[key], value)
        else:
            config[key] = value

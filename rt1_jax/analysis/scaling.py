"""Success against the amount of training data, and against the number of tasks in it.

python -m rt1_jax.analysis.scaling --config=configs/experiments.py:small --output=out/scaling

Trains a policy for each number of episodes and seed, fits a power law and a logistic curve, and
says whether a power law holds. A second axis keeps the number of episodes and takes fewer tasks, as
the RT-1 paper does (table 7). Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from rt1_jax.analysis import figures
from rt1_jax.analysis.experiment import (
    Rate,
    complete_runs,
    main,
    percent_axis,
    rate_series,
    seeded_runs,
    success,
    training_config,
)
from rt1_jax.analysis.fits import Fit, FitError, Point, fit_curves, verdict
from rt1_jax.analysis.paper import PAPER_DATA_SIZE, PAPER_TASKS
from rt1_jax.analysis.report import write_analysis
from rt1_jax.analysis.sweep import Finished, Run

NAMES = {"seen": "seen tasks", "unseen_tasks": "unseen tasks"}


def analyse(preset: Any, output: pathlib.Path, runs: pathlib.Path) -> dict[str, Any]:
    """Makes the runs that are missing, and writes figures, tables and `results.json`.

    Args:
      preset: of `configs/experiments.py`.
      output: directory for the report.
      runs: directory of the runs.

    Raises:
      ExperimentError: no run came to its end.
    """
    groups = build_runs(preset)
    finished, notes = complete_runs(preset, groups, runs)
    splits = tuple(preset.evaluation.splits)
    total = preset.data.episodes - preset.models.rt1.data.validation_episodes
    sizes = {f"{n} episodes": n for n in preset.scaling.episodes}
    rates = {
        split: {n: success(finished[name], split) for name, n in sizes.items()} for split in splits
    }
    fits: dict[str, dict[str, Fit]] = {}
    summary = []
    for split in splits:
        points = [
            _point(result, n, split) for name, n in sizes.items() for result in finished[name]
        ]
        try:
            fits[split] = fit_curves(points)
        except FitError as error:
            notes.append(f"{NAMES.get(split, split)}: no curve, {error}.")
            continue
        summary.append(f"{NAMES.get(split, split)}: {verdict(fits[split])}")
    shares = {f"{s:.3g} of the tasks": s for s in (1.0, *preset.scaling.tasks)}
    by_tasks = {
        split: {s: success(finished[name], split) for name, s in shares.items()} for split in splits
    }
    summary += _tasks_summary(preset, by_tasks)
    _draw_sizes(rates, fits, output / "data_size")
    _draw_tasks(by_tasks, preset.scaling.tasks_episodes, output / "tasks")
    header = ("episodes", *(NAMES.get(split, split) for split in splits), "runs")
    size_rows = [
        (n, *(rates[split][n].text() for split in splits), len(finished[name]))
        for name, n in sizes.items()
    ]
    task_rows = [
        (f"{s:.1%}", *(by_tasks[split][s].text() for split in splits), len(finished[name]))
        for name, s in shares.items()
    ]
    return write_analysis(
        output,
        "Success against data",
        summary,
        [
            (
                "data_size",
                "Success, pooled over seeds, with 95% Wilson intervals; crosses are seeds.",
            ),
            ("tasks", "The same number of episodes from fewer tasks."),
        ],
        [
            ("Success [95% interval] (each seed)", header, size_rows),
            (
                f"{preset.scaling.tasks_episodes:,} episodes of a share of the tasks",
                ("tasks", *header[1:]),
                task_rows,
            ),
            (
                "The RT-1 paper's table 7, real robots: success in percent",
                ("data, %", "tasks, %", "seen", "generalisation"),
                [(data, 100, seen, unseen) for data, seen, unseen in PAPER_DATA_SIZE]
                + [(data, tasks, seen, unseen) for tasks, data, seen, unseen in PAPER_TASKS],
            ),
        ],
        {
            "preset": preset.preset,
            "largest": total,
            "data_size": {
                split: {str(n): rate.to_json() for n, rate in of.items()}
                for split, of in rates.items()
            },
            "fits": {
                split: {name: fit.to_json() for name, fit in of.items()}
                for split, of in fits.items()
            },
            "tasks": {
                split: {str(s): rate.to_json() for s, rate in of.items()}
                for split, of in by_tasks.items()
            },
            "runs": {name: [result.run.name for result in of] for name, of in finished.items()},
        },
        [
            *notes,
            "Every run has the same number of training steps, whatever its data.",
            "Intervals pool the episodes of all seeds: they do not hold how much seeds differ, "
            "which the crosses show. Intervals of the fits' parameters do, as far as so few seeds "
            "tell.",
        ],
    )


def build_runs(preset: Any) -> dict[str, list[Run]]:
    """Group's name -> its runs, one a seed."""
    total = preset.data.episodes - preset.models.rt1.data.validation_episodes
    groups = {}
    for n in preset.scaling.episodes:
        # All there are is what the other experiments train on, too.
        config = training_config(preset, episodes=0 if n == total else n)
        groups[f"{n} episodes"] = seeded_runs(preset, config)
    for share in (1.0, *preset.scaling.tasks):
        count = preset.scaling.tasks_episodes
        config = training_config(preset, episodes=0 if count == total else count, tasks=share)
        groups[f"{share:.3g} of the tasks"] = seeded_runs(preset, config)
    return groups


def _point(result: Finished, size: int, split: str) -> Point:
    numbers = result.summary(split)
    return Point(size, numbers["successes"], numbers["episodes"])


def _tasks_summary(preset: Any, by_tasks: dict[str, dict[float, Rate]]) -> list[str]:
    lines = []
    for split, of in by_tasks.items():
        told = [f"{s:.1%} of the tasks {rate.rate:.0%}" for s, rate in of.items() if rate.episodes]
        if len(told) > 1:
            lines.append(
                f"{NAMES.get(split, split)}, {preset.scaling.tasks_episodes:,} episodes each: "
                + ", ".join(told)
                + "."
            )
    return lines


@figures.house_style()
def _draw_sizes(
    rates: dict[str, dict[int, Rate]], fits: dict[str, dict[str, Fit]], stem: pathlib.Path
) -> None:
    figure = figures.new_figure(9.6, 4.3)
    linear = figure.add_subplot(1, 2, 1)
    double = figure.add_subplot(1, 2, 2)
    for i, (split, of) in enumerate(rates.items()):
        known = {n: rate for n, rate in of.items() if rate.episodes}
        if not known:
            continue
        x = np.asarray([*known], float)
        y = np.asarray([rate.rate for rate in known.values()])
        low, high = np.asarray([rate.interval for rate in known.values()]).T
        colour, marker = figures.COLOURS[i], figures.MARKERS[i]
        shift = 1 + 0.03 * i  # side by side
        seeds = [(n, seed) for n, rate in known.items() for seed in rate.seeds]
        style: dict[str, Any] = {
            "color": colour,
            "linestyle": "none",
            "marker": marker,
            "capsize": 3.5,
        }
        name = NAMES.get(split, split)
        linear.errorbar(x * shift, y, [y - low, high - y], label=name, **style)
        linear.scatter(
            [n * shift for n, _ in seeds], [s for _, s in seeds], marker="x", s=26, color="#333333"
        )
        double.errorbar(x * shift, 1 - y, [high - y, y - low], label=name, **style)
        if split not in fits:
            continue
        grid = np.geomspace(x.min() * 0.8, x.max() * 1.25, 100)
        for curve, dash in (("power law", "-"), ("logistic", "--")):
            values = fits[split][curve].success(grid)
            label = f"{curve}, {name}"
            linear.plot(grid, values, color=colour, linestyle=dash, linewidth=1.4, label=label)
            double.plot(grid, 1 - values, color=colour, linestyle=dash, linewidth=1.4)
    linear.set(xscale="log", ylim=(-0.03, 1.03), xlabel="training episodes", ylabel="success rate")
    double.set(xscale="log", yscale="log", xlabel="training episodes", ylabel="failure rate")
    for axes in (linear, double):
        axes.grid(True)
        ticks = sorted({n for of in rates.values() for n in of})
        axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
        axes.minorticks_off()
    failures = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    double.set_yticks(failures, [f"{f:g}" for f in failures])
    linear.legend(fontsize=8.5, loc="best")
    figures.save_figure(figure, stem)


@figures.house_style()
def _draw_tasks(by_tasks: dict[str, dict[float, Rate]], episodes: int, stem: pathlib.Path) -> None:
    figure = figures.new_figure(6.4, 4.0)
    shares = [*next(iter(by_tasks.values()))]
    axes = figure.add_subplot(xlabel=f"share of the tasks in {episodes:,} training episodes")
    figures.bar_groups(
        axes,
        [f"{share:.1%}" for share in shares],
        [
            rate_series(NAMES.get(split, split), [of[s] for s in shares])
            for split, of in by_tasks.items()
        ],
    )
    percent_axis(axes)
    axes.legend(ncols=2, loc="upper center")
    figures.save_figure(figure, stem)


if __name__ == "__main__":
    main("scaling", "success against data", analyse)

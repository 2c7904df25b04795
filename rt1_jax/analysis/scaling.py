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

from rt1_jax import figures
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
        (f"{100 * s:g}%", *(by_tasks[split][s].text() for split in splits), len(finished[name]))
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
        told = [
            f"{100 * s:g}% of the tasks {rate.rate:.0%}" for s, rate in of.items() if rate.episodes
        ]
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
    figure = figures.new_figure(9.6, 5.0)
    linear = figure.add_subplot(1, 2, 1)
    double = figure.add_subplot(1, 2, 2)
    failures: list[float] = [1.0]
    for i, (split, of) in enumerate(rates.items()):
        known = {n: rate for n, rate in of.items() if rate.episodes}
        if not known:
            continue
        sizes = np.asarray([*known], float)
        x = sizes * (0.95, 1.05)[i % 2]  # side by side
        y = np.asarray([rate.rate for rate in known.values()])
        low, high = np.asarray([rate.interval for rate in known.values()]).T
        below, above = np.clip([y - low, high - y], 0, None)
        failures += [f for f in (*(1 - high), *(1 - y)) if f > 0.002]
        colour = figures.COLOURS[i]
        name = NAMES.get(split, split)
        style: dict[str, Any] = {
            "color": colour,
            "linestyle": "none",
            "marker": figures.MARKERS[i],
            "markerfacecolor": "white" if i % 2 else colour,
            "capsize": 3.5,
        }
        linear.errorbar(x, y, [below, above], label=name, **style)
        double.errorbar(x, 1 - y, [above, below], **style)
        outwards = (0.95, 1.05)[i % 2]
        for place, rate in zip(x, known.values(), strict=True):
            if len(rate.seeds) > 1:
                crosses: dict[str, Any] = {"color": "#333333", "markersize": 5}
                linear.plot([place * outwards] * len(rate.seeds), rate.seeds, "x", **crosses)
        if split not in fits:
            continue
        grid = np.geomspace(sizes.min() * 0.8, sizes.max() * 1.25, 100)
        for j, curve in enumerate(("power law", "logistic")):
            values = fits[split][curve].success(grid)
            dash = figures.DASHES[(0, 1, 3, 2)[(2 * i + j) % 4]]
            line: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 1.4}
            linear.plot(grid, values, label=f"{curve}, {name}", **line)
            double.plot(grid, 1 - values, **line)
    linear.set(xscale="log", ylim=(-0.03, 1.03), xlabel="training episodes", ylabel="success rate")
    linear.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0%", "25%", "50%", "75%", "100%"))
    double.set(xscale="log", yscale="log", xlabel="training episodes", ylabel="failure rate")
    double.set_ylim(0.8 * min(failures), 1.2)
    marks = [f for f in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if f > min(failures)]
    double.set_yticks(marks, [f"{100 * f:g}%" for f in marks])
    for axes in (linear, double):
        axes.grid(True)
        ticks = sorted({n for of in rates.values() for n in of})
        axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
        axes.minorticks_off()
    handles, labels = linear.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda k: labels[k].split(", ")[-1])
    figure.legend(
        [handles[k] for k in order],
        [labels[k] for k in order],
        loc="outside lower center",
        ncols=max(1, len(rates)),
    )
    figures.save_figure(figure, stem)


@figures.house_style()
def _draw_tasks(by_tasks: dict[str, dict[float, Rate]], episodes: int, stem: pathlib.Path) -> None:
    figure = figures.new_figure(6.4, 4.0)
    shares = [*next(iter(by_tasks.values()))]
    axes = figure.add_subplot(xlabel=f"share of the tasks in {episodes:,} training episodes")
    figures.bar_groups(
        axes,
        [f"{100 * share:g}%" for share in shares],
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

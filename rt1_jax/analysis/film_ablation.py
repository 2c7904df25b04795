"""How the instruction comes in: FiLM in the backbone, at its end, as a token, or not at all.

python -m rt1_jax.analysis.film_ablation --config=configs/experiments.py:small

Trains RT-1 with each, on the same data with the same budget and several seeds, and evaluates all
instructions of the preset's skills. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt1_jax import figures
from rt1_jax.analysis.experiment import (
    Rate,
    complete_runs,
    main,
    percent_axis,
    ranking,
    rate_series,
    seeded_runs,
    success,
    training_config,
)
from rt1_jax.analysis.report import write_analysis
from rt1_jax.analysis.sweep import Finished

NAMES = {
    "rt1": "FiLM after every block",
    "film_end": "FiLM at the end only",
    "language_token": "instruction as a token",
    "no_language": "no instruction",
}
WRONG = "wrong_instruction"


def analyse(preset: Any, output: pathlib.Path, runs: pathlib.Path) -> dict[str, Any]:
    """Makes the runs that are missing, and writes figures, tables and `results.json`.

    Raises:
      ExperimentError: no run came to its end.
    """
    seeds = preset.film_ablation.get("seeds")
    groups = {
        name: seeded_runs(preset, training_config(preset, variant=name), seeds=seeds)
        for name in preset.film_ablation.variants
    }
    finished, notes = complete_runs(preset, groups, runs)
    splits = tuple(preset.evaluation.splits)
    columns = [(split, condition) for split in splits for condition in ("policy", WRONG)]
    rates = {
        name: {column: success(of, *column) for column in columns} for name, of in finished.items()
    }
    several = len(preset.data.skills) > 1
    what, parts = ("skill", by_skill) if several else ("object", by_target)
    stem = "skills" if several else "targets"
    objects = {name: parts(of, splits[0]) for name, of in finished.items()}
    _draw_success(rates, columns, output / "success")
    _draw_parts(objects, output / stem)
    titles = [f"{split.replace('_', ' ')}, {_told(condition)}" for split, condition in columns]
    targets = sorted({target for of in objects.values() for target in of})
    return write_analysis(
        output,
        "How the instruction comes in",
        _summary(rates, splits),
        [
            ("success", "Success over all seeds, with 95% Wilson intervals; crosses are seeds."),
            (stem, f"Success on {splits[0]} by the {what} that the instruction names."),
        ],
        [
            (
                "Success [95% interval] (each seed)",
                ("instruction", "parameters", *titles),
                [
                    (
                        NAMES.get(name, name),
                        finished[name][0].training["parameters"] if finished[name] else None,
                        *(of[column].text() for column in columns),
                    )
                    for name, of in rates.items()
                ],
            ),
            (
                f"Success on {splits[0]} by {what}",
                (what, *(NAMES.get(name, name) for name in objects)),
                [
                    (t, *(_share(of[t]) if t in of else None for of in objects.values()))
                    for t in targets
                ],
            ),
        ],
        {
            "preset": preset.preset,
            "success": {
                name: {
                    f"{split}/{condition}": of[split, condition].to_json()
                    for split, condition in columns
                }
                for name, of in rates.items()
            },
            stem: {
                name: {target: rate.to_json() for target, rate in of.items()}
                for name, of in objects.items()
            },
            "runs": {name: [result.run.name for result in of] for name, of in finished.items()},
        },
        [
            *notes,
            "Told a wrong instruction, a policy that listens must fail; one that does not is as "
            "good as with the right one, which is what it gets by chance.",
            "Intervals pool the episodes of all seeds: they do not hold how much seeds differ.",
        ],
    )


def by_target(results: Sequence[Finished], split: str) -> dict[str, Rate]:
    """Success by the object that the task is about, over all runs."""
    counts: dict[str, list[bool]] = {}
    for result in results:
        for episode in result.results["closed_loop"]["episodes"]:
            if episode["condition"] == "policy" and episode["split"] == split:
                target = target_of(episode["instruction"])
                counts.setdefault(target, []).append(bool(episode["success"]))
    return {target: Rate(sum(of), len(of), ()) for target, of in counts.items()}


def by_skill(results: Sequence[Finished], split: str) -> dict[str, Rate]:
    """Success by skill, over all runs."""
    skills = {skill for result in results for skill in result.run.skills}
    return {skill: success(results, split, skill=skill) for skill in sorted(skills)}


def target_of(instruction: str) -> str:
    """The first object that a tabletop instruction names, or the sentence where there is none."""
    from rt1_jax.envs.objects import all_objects

    found = [(instruction.find(kind.name), kind.name) for kind in all_objects()]
    places = [(place, name) for place, name in found if place >= 0]
    return min(places)[1] if places else instruction


def _summary(rates: dict[str, dict[tuple[str, str], Rate]], splits: Sequence[str]) -> list[str]:
    return [
        f"{split.replace('_', ' ')}: "
        f"{ranking({name: of[split, 'policy'] for name, of in rates.items()}, NAMES)}."
        for split in splits
    ]


def _told(condition: str) -> str:
    return "told wrong" if condition == WRONG else "told right"


def _share(rate: Rate) -> str:
    return f"{rate.successes}/{rate.episodes}"


@figures.house_style()
def _draw_success(
    rates: dict[str, dict[tuple[str, str], Rate]],
    columns: Sequence[tuple[str, str]],
    stem: pathlib.Path,
) -> None:
    figure = figures.new_figure(8.4, 4.2)
    axes = figure.add_subplot()
    names = [*rates]
    series = []
    for split, condition in columns:
        of = [rates[name][split, condition] for name in names]
        label = f"{split.replace('_', ' ')}, {_told(condition)}"
        series.append(rate_series(label, of))
    figures.bar_groups(axes, [NAMES.get(n, n).replace(" ", "\n", 1) for n in names], series)
    percent_axis(axes)
    axes.legend(ncols=2, loc="upper center")
    figures.save_figure(figure, stem)


@figures.house_style()
def _draw_parts(objects: dict[str, dict[str, Rate]], stem: pathlib.Path) -> None:
    targets = sorted({target for of in objects.values() for target in of})
    table = np.asarray(
        [[of[t].rate if t in of else np.nan for t in targets] for of in objects.values()]
    )
    figure = figures.new_figure(9.0, 1.2 + 0.55 * len(objects) + 0.9)
    axes = figure.add_subplot()
    image = axes.imshow(100 * table, cmap="Greys", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(targets)), targets, rotation=40, ha="right")
    axes.set_yticks(range(len(objects)), [NAMES.get(name, name) for name in objects])
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            ink = "white" if value > 0.5 else "black"
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=ink)
    figure.colorbar(image, label="success, %", shrink=0.9)
    figures.save_figure(figure, stem)


if __name__ == "__main__":
    main("film_ablation", "how the instruction comes in", analyse)

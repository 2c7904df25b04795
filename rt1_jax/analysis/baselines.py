"""RT-1 against BC-Z, Gato and the lesson's simplified model, on the same data and budget.

python -m rt1_jax.analysis.baselines --config=configs/experiments.py:small

Trains each with several seeds, evaluates them on all kinds of generalisation, and draws the table
of the lesson and of the RT-1 paper (table 2) beside what is measured. Interrupted, it goes on where
it stopped.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from rt1_jax import figures
from rt1_jax.analysis.experiment import (
    Rate,
    complete_runs,
    main,
    percent_axis,
    ranking,
    rate_series,
    seeded_runs,
    step_times,
    success,
    training_config,
)
from rt1_jax.analysis.paper import LESSON_TABLE, PAPER_TABLE_2
from rt1_jax.analysis.report import write_analysis

NAMES = {
    "rt1": "RT-1",
    "bc_z": "BC-Z",
    "bc_z_xl": "BC-Z XL",
    "gato": "Gato",
    "no_history": "RT-1 without history",
    "lesson": "the lesson's model",
}


def analyse(preset: Any, output: pathlib.Path, runs: pathlib.Path) -> dict[str, Any]:
    """Makes the runs that are missing, and writes the figure, tables and `results.json`.

    Raises:
      ExperimentError: no run came to its end.
    """
    splits = tuple(preset.baselines.splits)
    configs = {name: training_config(preset, name) for name in preset.baselines.models}
    configs |= {name: training_config(preset, "rt1", name) for name in preset.baselines.variants}
    groups = {name: seeded_runs(preset, config, splits) for name, config in configs.items()}
    finished, notes = complete_runs(preset, groups, runs)
    rates = {name: {split: success(of, split) for split in splits} for name, of in finished.items()}
    wrong = {name: success(of, splits[0], "wrong_instruction") for name, of in finished.items()}
    times = step_times(finished, runs)
    _draw(rates, splits, output / "baselines")
    rows = [
        (
            NAMES.get(name, name),
            of[0].training["parameters"] if of else None,
            times.get(name),
            *(rates[name][split].text() for split in splits),
            wrong[name].text(),
        )
        for name, of in finished.items()
    ]
    words = [split.replace("_", " ") for split in splits]
    return write_analysis(
        output,
        "RT-1 against BC-Z and Gato",
        _summary(rates, splits),
        [("baselines", "Success over all seeds, with 95% Wilson intervals; crosses are seeds.")],
        [
            (
                "Measured here: success [95% interval] (each seed)",
                ("model", "parameters", "ms a step", *words, f"{words[0]}, told wrong"),
                rows,
            ),
            (
                "The RT-1 paper's table 2, real robots, all trained on RT-1's data: success, %",
                ("model", "seen", "unseen tasks", "distractors", "backgrounds"),
                [
                    (
                        NAMES[name],
                        of["seen"],
                        of["unseen_tasks"],
                        of["distractors"],
                        of["backgrounds"],
                    )
                    for name, of in PAPER_TABLE_2.items()
                ],
            ),
            (
                "The lesson's table: success, %",
                ("model", "seen", "unseen tasks", "unseen objects", "parameters"),
                [
                    (
                        NAMES[name],
                        of["seen"],
                        of["unseen_tasks"],
                        of.get("unseen_objects"),
                        of["parameters"],
                    )
                    for name, of in LESSON_TABLE.items()
                ],
            ),
        ],
        {
            "preset": preset.preset,
            "success": {
                name: {split: rate.to_json() for split, rate in of.items()}
                for name, of in rates.items()
            },
            "wrong_instruction": {name: rate.to_json() for name, rate in wrong.items()},
            "parameters": {
                name: of[0].training["parameters"] for name, of in finished.items() if of
            },
            "step_ms": times,
            "runs": {name: [result.run.name for result in of] for name, of in finished.items()},
            "paper_table_2": PAPER_TABLE_2,
            "lesson_table": LESSON_TABLE,
        },
        [
            *notes,
            "Milliseconds are the median of a whole step with one robot on this machine, the "
            "models taking turns.",
            "Intervals pool the episodes of all seeds: they do not hold how much seeds differ.",
        ],
    )


def _summary(rates: dict[str, dict[str, Rate]], splits: Sequence[str]) -> list[str]:
    return [
        f"{split.replace('_', ' ')}: "
        f"{ranking({name: of[split] for name, of in rates.items()}, NAMES)}."
        for split in splits
    ]


@figures.house_style()
def _draw(rates: dict[str, dict[str, Rate]], splits: Sequence[str], stem: pathlib.Path) -> None:
    figure = figures.new_figure(9.2, 4.2)
    axes = figure.add_subplot()
    series = [
        rate_series(NAMES.get(name, name), [of[split] for split in splits])
        for name, of in rates.items()
    ]
    figures.bar_groups(axes, [split.replace("_", "\n") for split in splits], series)
    percent_axis(axes)
    axes.legend(ncols=len(series), loc="upper center")
    figures.save_figure(figure, stem)


if __name__ == "__main__":
    main("baselines", "RT-1 against BC-Z and Gato", analyse)

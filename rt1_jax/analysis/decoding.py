"""Parallel against autoregressive decoding of actions: accuracy, success and time.

python -m rt1_jax.analysis.decoding --config=configs/experiments.py:small

RT-1 predicts an action's eleven tokens at once. The alternative predicts each from those before it
and is trained to; here its keys and values are cached, so that a token more costs one row. Trains
each way with several seeds, measures tokens on held-out episodes (an autoregressive policy sees its
own earlier tokens there, as on the robot), success, and milliseconds, also of RT-1's full size.
Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rt1_jax import figures
from rt1_jax.analysis.experiment import (
    ExperimentError,
    Rate,
    complete_runs,
    main,
    percent_axis,
    rate_series,
    seeded_runs,
    step_times,
    success,
    training_config,
)
from rt1_jax.analysis.intervals import MeanInterval, mean_interval
from rt1_jax.analysis.paper import PAPER_DECODING
from rt1_jax.analysis.report import write_analysis
from rt1_jax.analysis.sweep import Finished
from rt1_jax.analysis.timing import interleaved

NAMES = {
    "rt1": "parallel (RT-1)",
    "autoregressive": "autoregressive",
    "continuous": "continuous",
}
_FIELD = "world_vector"


def analyse(preset: Any, output: pathlib.Path, runs: pathlib.Path) -> dict[str, Any]:
    """Makes the runs that are missing, and writes the figure, tables and `results.json`.

    Raises:
      ExperimentError: no run came to its end.
    """
    configs = {name: training_config(preset, variant=name) for name in preset.decoding.variants}
    seeds = preset.decoding.get("seeds")
    groups = {n: seeded_runs(preset, config, seeds=seeds) for n, config in configs.items()}
    finished, notes = complete_runs(preset, groups, runs)
    splits = tuple(preset.evaluation.splits)
    rates = {name: {split: success(of, split) for split in splits} for name, of in finished.items()}
    held_out = {name: _held_out(of, runs) for name, of in finished.items()}
    accuracy = {
        name: mean_interval([numbers["token_accuracy"] for numbers in of])
        for name, of in held_out.items()
    }
    error = {
        name: mean_interval(
            [np.mean(numbers["fields"][_FIELD]["mean_absolute_error"]) for numbers in of]
        )
        for name, of in held_out.items()
    }
    times = step_times(finished, runs)
    full_size = full_size_milliseconds()
    _draw(rates, times, full_size, output / "decoding")
    words = [split.replace("_", " ") for split in splits]
    return write_analysis(
        output,
        "Parallel and autoregressive decoding",
        _summary(rates, accuracy, times, full_size),
        [
            (
                "decoding",
                "Left: success over all seeds, with 95% Wilson intervals; crosses are seeds. "
                "Right: median milliseconds on this machine, the ways taking turns.",
            )
        ],
        [
            (
                "Measured here: success [95% interval] (each seed)",
                (
                    "decoding",
                    *words,
                    "tokens right, held out",
                    "translation error, m",
                    "ms a step",
                ),
                [
                    (
                        NAMES.get(name, name),
                        *(rates[name][split].text() for split in splits),
                        accuracy[name].text(4),
                        error[name].text(4),
                        times.get(name),
                    )
                    for name in finished
                ],
            ),
            (
                "Decoding alone at RT-1's full size, random weights, one robot",
                ("decoding", "ms"),
                [(NAMES.get(name, name), value) for name, value in full_size.items()],
            ),
            (
                "The RT-1 paper's ablations, real robots",
                ("decoding", "seen, %", "unseen, %", "ms"),
                [(NAMES[name], *numbers) for name, numbers in PAPER_DECODING.items()],
            ),
        ],
        {
            "preset": preset.preset,
            "success": {
                name: {split: rate.to_json() for split, rate in of.items()}
                for name, of in rates.items()
            },
            "token_accuracy": {name: of.to_json() for name, of in accuracy.items()},
            "translation_error": {name: of.to_json() for name, of in error.items()},
            "step_ms": times,
            "full_size_decoding_ms": full_size,
            "runs": {name: [result.run.name for result in of] for name, of in finished.items()},
        },
        [
            *notes,
            "Token accuracy and error: mean over seeds with the 95% interval of Student's t, which "
            "is wide for few seeds. Constant fields (rotation, base) are right always and in all "
            "ways, and count here.",
            "A step of the policy encodes a frame, too; at full size that is most of it, and it is "
            "left out of the second table.",
        ],
    )


def full_size_milliseconds(repeats: int = 10) -> dict[str, float]:
    """Milliseconds from the tokens of a full history to an action, at RT-1's size, batch 1."""
    from rt1_jax.models.config import rt1_config
    from rt1_jax.models.rt1 import RT1

    base = rt1_config()
    model = {
        "rt1": RT1(base),
        "autoregressive": RT1(dataclasses.replace(base, decoding="autoregressive")),
    }
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((1, base.frames, *base.frame_shape)).astype(np.float32)
    actions = np.zeros((1, base.frames, base.action_tokens), np.int32)
    last = np.full(1, base.frames - 1)
    key = jax.random.key(0)
    parallel = jax.jit(lambda v: model["rt1"].apply(v, tokens, method="decode_tokens"))
    serial = jax.jit(
        lambda v: model["autoregressive"].apply(v, tokens, last, actions, method="decode_actions")
    )
    variables = jax.jit(lambda k: model["rt1"].init(k, tokens, method="decode_tokens"))(key)
    own = jax.jit(
        lambda k: model["autoregressive"].init(
            k, tokens, method="decode_tokens", action_tokens=actions
        )
    )(key)
    return interleaved(
        {"rt1": lambda: parallel(variables), "autoregressive": lambda: serial(own)}, repeats
    )


def _held_out(results: Sequence[Finished], runs: pathlib.Path) -> list[dict[str, Any]]:
    """Offline numbers of each run's policy on its validation episodes, each in its own history."""
    from rt1_jax.data.store import StepStore
    from rt1_jax.data.subset import split_validation
    from rt1_jax.evaluation.offline import embeddings_for, evaluate_offline
    from rt1_jax.policies.load import load_policy

    numbers = []
    for result in results:
        data = result.run.config.data
        _, held_out = split_validation(StepStore.open(data.directory), data.validation_episodes)
        if held_out is None:
            raise ExperimentError("data.validation_episodes is 0: no episode is held out")
        policy = load_policy(runs / result.run.name)
        embeddings, _ = embeddings_for(policy, held_out)
        numbers.append(evaluate_offline(policy, held_out, embeddings))
    return numbers


def _summary(
    rates: dict[str, dict[str, Rate]],
    accuracy: dict[str, MeanInterval],
    times: dict[str, float],
    full_size: dict[str, float],
) -> list[str]:
    lines = []
    for name, of in rates.items():
        if not accuracy[name].samples:
            lines.append(f"{NAMES.get(name, name)}: missing.")
            continue
        told = ", ".join(f"{split.replace('_', ' ')} {rate.rate:.0%}" for split, rate in of.items())
        lines.append(
            f"{NAMES.get(name, name)}: {told}; {float(accuracy[name].mean):.1%} of held-out tokens "
            f"right; {times.get(name, float('nan')):.1f} ms a step."
        )
    ratio = full_size["autoregressive"] / full_size["rt1"]
    lines.append(
        f"At RT-1's size, decoding takes {full_size['rt1']:.0f} ms in parallel and "
        f"{full_size['autoregressive']:.0f} ms autoregressively with cached keys and values: "
        f"{ratio:.1f} times as long (the paper: 15 and 36 ms for the whole model)."
    )
    return lines


@figures.house_style()
def _draw(
    rates: dict[str, dict[str, Rate]],
    times: dict[str, float],
    full_size: dict[str, float],
    stem: pathlib.Path,
) -> None:
    figure = figures.new_figure(10.2, 4.2)
    left = figure.add_subplot(1, 2, 1)
    splits = [*next(iter(rates.values()))]
    series = [
        rate_series(split.replace("_", " "), [of[split] for of in rates.values()])
        for split in splits
    ]
    figures.bar_groups(left, [NAMES.get(n, n).replace(" ", "\n") for n in rates], series)
    percent_axis(left)
    left.legend(ncols=2, loc="upper center")
    right = figure.add_subplot(1, 2, 2)
    short = {name: text.removesuffix(" (RT-1)") for name, text in NAMES.items()}
    bars = {f"{short.get(n, n)}\nwhole step, as trained": t for n, t in times.items()}
    bars |= {f"{short[n]}\ndecoding, full size": t for n, t in full_size.items()}
    places = np.arange(len(bars))
    right.barh(places, [*bars.values()], color="#56b4e9", edgecolor="#333333")
    right.set(xlabel="milliseconds")
    right.set_yticks(places, [*bars])
    right.invert_yaxis()
    for place, value in enumerate(bars.values()):
        right.text(value, place, f" {value:.1f}", va="center")
    right.set_xlim(0, 1.18 * max(bars.values()))
    right.grid(True, axis="x")
    figures.save_figure(figure, stem)


if __name__ == "__main__":
    main("decoding", "parallel and autoregressive decoding", analyse)

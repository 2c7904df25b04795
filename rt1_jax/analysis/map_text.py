"""The numbers of token maps in sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rt1_jax.analysis.intervals import MeanInterval
from rt1_jax.analysis.map_numbers import NEXT_FRAME
from rt1_jax.analysis.scenes import KINDS

Numbers = Mapping[str, MeanInterval]
Table = tuple[str, Sequence[str], Sequence[Sequence[Any]]]


def summary_lines(numbers: Numbers, episodes: int, positions: int) -> list[str]:
    """What was found, a sentence each."""
    lines = []
    if "entropy" in numbers:
        entropy = numbers["entropy"].mean
        line = (
            f"Over {episodes} episodes a token's map has {entropy.min():.1f} to "
            f"{entropy.max():.1f} nats of entropy, of at most {np.log(positions):.2f} "
            f"(ln {positions})"
        )
        if "mean_overlap" in numbers:
            line += f"; two tokens share {numbers['mean_overlap'].text()} of their weight"
        lines.append(f"{line}.")
    moved = [
        f"{kind} {numbers[f'{kind}/total_variation'].mean.mean():.2f}"
        for kind in (NEXT_FRAME, *KINDS)
        if f"{kind}/total_variation" in numbers
    ]
    if moved:
        lines.append(f"Share of a map's weight that moves, mean over tokens: {', '.join(moved)}.")
    for name, what in (("share", "maps"), ("attention", "the last layer's attention")):
        key = f"{name}/all frames"
        if f"{key}/named" in numbers:
            named, rest = (_whole(numbers[f"{key}/{k}"], name) for k in ("named", "not named"))
            lines.append(
                f"Near the object that is named lie {named:.0%} of {what}, near one that is not "
                f"{rest:.0%}; of a uniform map "
                f"{float(numbers['share/all frames/uniform'].mean):.0%}."
            )
    return lines


def result_tables(numbers: Numbers, action_names: Sequence[str]) -> list[Table]:
    """Tables for the report; means with 95% intervals."""
    tables: list[Table] = []
    if "entropy" in numbers:
        tables += [_token_table(numbers), _pair_table(numbers)]
    if "attention_split" in numbers:
        split = numbers["attention_split"]
        rows = [
            [f"layer {i + 1}", *(split[i, j].text() for j in range(3))]
            for i in range(len(split.mean))
        ]
        header = ("layer", "newest frame", "older frames", "action slots")
        tables.append(("Attention of the action rows, mean over action tokens", header, rows))
    for name, labels in (("share", None), ("attention", list(action_names))):
        for when in ("all frames", "first frame"):
            if f"{name}/{when}/named" in numbers:
                tables.append(_share_table(numbers, name, when, labels))
    return tables


def _token_table(numbers: Numbers) -> Table:
    kinds = [k for k in (NEXT_FRAME, *KINDS) if f"{k}/total_variation" in numbers]
    header = ["token", "entropy, nats", "of uniform"]
    header += [f"{kind}: moved" for kind in kinds] + [f"{kind}: shift, px" for kind in kinds]
    rows = []
    for token in range(len(numbers["entropy"].mean)):
        row = [str(token + 1), numbers["entropy"][token].text()]
        row.append(numbers["relative_entropy"][token].text())
        row += [numbers[f"{kind}/total_variation"][token].text() for kind in kinds]
        row += [numbers[f"{kind}/shift"][token].text(1) for kind in kinds]
        rows.append(row)
    return "Tokens: width of the maps and how far they move, by what changed", header, rows


def _pair_table(numbers: Numbers) -> Table:
    names = {"mean_overlap": "overlap, Σ min(a, b)", "mean_cosine": "cosine"}
    rows = [[text, numbers[name].text()] for name, text in names.items() if name in numbers]
    return "Pairs of different tokens on the same frame, mean over pairs", ("measure", "mean"), rows


def _share_table(numbers: Numbers, name: str, when: str, labels: Sequence[str] | None) -> Table:
    named, rest = (numbers[f"{name}/{when}/{which}"] for which in ("named", "not named"))
    uniform = numbers[f"share/{when}/uniform"].text()
    if name == "share":
        rows = [
            [f"token {i + 1}", named[i].text(), rest[i].text(), uniform]
            for i in range(len(named.mean))
        ]
        header = ["map", "named", "not named", "uniform"]
        return f"Share of the weight near objects, {when}", header, rows
    assert labels is not None
    rows = [
        [label, *(one[row, i].text() for row in (0, 1) for one in (named, rest)), uniform]
        for i, label in enumerate(labels[: named.mean.shape[1]])
    ]
    header = [
        "action token", "last layer: named", "not named",
        "all layers: named", "not named", "uniform",
    ]  # fmt: skip
    return f"Share of the attention on the newest frame near objects, {when}", header, rows


def _whole(numbers: MeanInterval, name: str) -> float:
    """Mean over tokens; of attention, over the last layer's action tokens."""
    return float(numbers.mean[0].mean() if name == "attention" else numbers.mean.mean())

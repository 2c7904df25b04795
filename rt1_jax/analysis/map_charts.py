"""Charts of what token maps and attention measure over many episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rt1_jax.analysis.intervals import MeanInterval
from rt1_jax.analysis.map_numbers import NEXT_FRAME
from rt1_jax.analysis.scenes import KINDS
from rt1_jax.figures import COLOURS, Series, bar_groups, house_style, new_figure

Numbers = Mapping[str, MeanInterval]


@house_style()
def draw_shapes(numbers: Numbers, positions: int) -> Figure:
    """Entropy of each token's map, and overlap and cosine of every pair."""
    entropy = numbers["entropy"]
    count = len(entropy.mean)
    figure = new_figure(13.0, 4.3)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    bar_groups(left, _token_names(count), [_series("entropy", entropy)])
    left.axhline(np.log(positions), color="#333333", linestyle="--", linewidth=1.2)
    left.annotate(
        f"everywhere alike: ln {positions} = {np.log(positions):.2f}",
        (0.02, np.log(positions)), xycoords=("axes fraction", "data"), xytext=(0, 4),
        textcoords="offset points", fontsize=10,
    )  # fmt: skip
    left.set(xlabel="token", ylabel="entropy of the map (nats)", title="How wide a token looks")
    left.set_ylim(0, np.log(positions) * 1.13)
    _matrix(middle, numbers["overlap"].mean, "Overlap of two tokens, Σ min(a, b)")
    _matrix(right, numbers["cosine"].mean, "Cosine of two tokens")
    return figure


@house_style()
def draw_movement(numbers: Numbers) -> Figure:
    """How far each token's map moves, by what changed."""
    kinds = [k for k in (NEXT_FRAME, *KINDS) if f"{k}/total_variation" in numbers]
    figure = new_figure(11.0, 7.0)
    above, below = figure.subplots(2, 1, sharex=True)
    count = len(numbers["entropy"].mean)
    for axes, name in ((above, "total_variation"), (below, "shift")):
        bar_groups(axes, _token_names(count), [_series(k, numbers[f"{k}/{name}"]) for k in kinds])
        if axes.get_legend() is not None:
            axes.get_legend().remove()
        axes.set_ylim(bottom=0)
    above.set(ylabel="weight that moves\n(total variation)")
    below.set(ylabel="shift of the centre\n(pixels of the frame)", xlabel="token")
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(kinds))
    return figure


@house_style()
def draw_shares(numbers: Numbers, when: str = "all frames") -> Figure:
    """Weight around the object that the instruction names, against the others."""
    names, entries = [], []
    if f"share/{when}/named" in numbers:
        pair = [numbers[f"share/{when}/{which}"] for which in ("named", "not named")]
        for token in range(len(pair[0].mean)):
            names.append(f"token\n{token + 1}")
            entries.append([one[token] for one in pair])
    if f"attention/{when}/named" in numbers:
        pair = [numbers[f"mean attention/{when}/{which}"] for which in ("named", "not named")]
        for row, name in enumerate(("attention\nlast layer", "attention\nall layers")):
            names.append(name)
            entries.append([one[row] for one in pair])
    figure = new_figure(max(7.0, 0.9 * len(names) + 2.5), 4.4)
    axes = figure.add_subplot()
    series = [
        Series(name, *np.transpose([[e[i].mean, e[i].low, e[i].high] for e in entries]))
        for i, name in enumerate(("object named", "objects not named"))
    ]
    bar_groups(axes, names, series)
    uniform = float(numbers[f"share/{when}/uniform"].mean)
    axes.axhline(uniform, color="#333333", linestyle="--", linewidth=1.2, label="uniform map")
    axes.set_ylim(bottom=0)
    axes.set(ylabel="share of the weight within\n1/8 of the frame around the object")
    axes.legend()
    return figure


@house_style()
def draw_window_attention(
    attention: np.ndarray, names: Sequence[str], most_layers: int = 8
) -> Figure:
    """Attention from action tokens to every image token of the window, a panel a layer.

    Args:
      attention: [layers, action_tokens, frames, tokens].
      names: of the action tokens.
      most_layers: of more, so many evenly spaced ones are drawn.
    """
    count, actions, frames, tokens = attention.shape
    layers = np.unique(np.linspace(0, count - 1, min(most_layers, count)).round().astype(int))
    columns = 2 if frames * tokens <= 64 and len(layers) > 1 else 1
    rows = -(-len(layers) // columns)
    figure = new_figure(13.0, (0.27 * actions + 1.2) * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    top = float(attention[layers].max())
    for place, layer in zip(axes.flat, layers, strict=False):
        drawn = attention[layer].reshape(actions, -1)
        image = place.imshow(drawn, cmap="Greys", vmin=0, vmax=top, aspect="auto")
        for frame in range(1, frames):
            place.axvline(frame * tokens - 0.5, color=COLOURS[1], linewidth=1.6)
        ages = range(frames - 1, -1, -1)
        place.set_xticks(
            [_centre(frame, tokens) for frame in range(frames)],
            [
                f"newest,\n{tokens} tokens"
                if age == 0
                else f"{age} before"
                if age > 1
                else "1 frame\nbefore"
                for age in ages
            ],
        )
        place.set_yticks(range(actions), names, fontsize=9)
        place.set_title(f"layer {layer + 1} of {count}")
    for place in list(axes.flat)[len(layers) :]:
        place.axis("off")
    figure.colorbar(image, ax=axes, label="attention (mean over heads)", aspect=25)
    return figure


def _centre(frame: int, tokens: int) -> float:
    """Column in the middle of a frame's tokens."""
    return frame * tokens + (tokens - 1) / 2


def _series(name: str, numbers: MeanInterval) -> Series:
    known = numbers.samples > 1
    return Series(
        name, numbers.mean, numbers.low if known else None, numbers.high if known else None
    )


def _token_names(count: int) -> list[str]:
    return [str(i + 1) for i in range(count)]


def _matrix(axes: Any, matrix: np.ndarray, title: str) -> None:
    axes.imshow(matrix, cmap="Greys", vmin=0, vmax=1)
    count = len(matrix)
    if count <= 12:
        for (row, column), value in np.ndenumerate(matrix):
            colour = "white" if value > 0.55 else "black"
            axes.text(
                column, row, f"{value:.2f}".replace("0.", "."), ha="center", va="center",
                fontsize=8.5, color=colour,
            )  # fmt: skip
        axes.set_xticks(range(count), _token_names(count))
        axes.set_yticks(range(count), _token_names(count))
    axes.set(title=title, xlabel="token", ylabel="token")

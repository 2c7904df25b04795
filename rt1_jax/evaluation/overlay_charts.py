"""Predicted against recorded actions along an episode, drawn; legible without colour."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rt1_jax.actions import ActionField, ActionSpec
from rt1_jax.evaluation.playback import Playback
from rt1_jax.figures import COLOURS, house_style, new_figure

_WIDTH, _LEFT, _RIGHT, _BETWEEN = 12.0, 0.62, 0.15, 0.75  # inches
_PANEL, _GAP, _TOP, _BOTTOM = 0.95, 0.36, 1.1, 0.5
_FRAMES = 8
_WHOLE = 0.25
"""Share of the bounds' distance from which on the bounds are in the picture."""
_STILL = 4
"""Bins: what was recorded within so few hardly moves, and is not enlarged."""


@house_style()
def draw(
    played: Playback, images: np.ndarray, spec: ActionSpec, title: str, frame_rate: float
) -> Figure:
    """Two columns of panels, one a number of the action, each over a strip of the frames.

    Args:
      played: the episode.
      images: uint8 [t, h, w, 3], its frames.
      spec: of the policy.
      title: at the top.
      frame_rate: steps a second; 0 where it is not known, and the axis counts steps.
    """
    panels = [(f, i) for f in spec.fields for i in range(1 if f.kind == "one_hot" else f.size)]
    rows = -(-len(panels) // 2)
    inner = (_WIDTH - _LEFT - _RIGHT - _BETWEEN) / 2  # of a column
    count = min(_FRAMES, len(played))
    strip = inner / count * images.shape[1] / images.shape[2]
    strip = min(strip, 1.3)
    height = _TOP + rows * (_PANEL + _GAP) + strip + _BOTTOM
    figure = new_figure(_WIDTH, height)
    figure.set_layout_engine("none")  # the strips' heights follow from the columns' width

    def place(column: int, top: float, tall: float) -> Any:  # inches from the top left
        left = _LEFT + column * (inner + _BETWEEN)
        return figure.add_axes(
            (left / _WIDTH, 1 - (top + tall) / height, inner / _WIDTH, tall / height)
        )

    ends = (-0.5, len(played) - 0.5)
    for number, (field, i) in enumerate(panels):
        column, row = divmod(number, rows)
        axes = place(column, _TOP + row * (_PANEL + _GAP), _PANEL)
        if field.kind == "one_hot":
            _draw_mode(axes, played, field)
        else:
            _draw_number(axes, played, spec, field, i)
        axes.set_title(_heading(played, spec, field, i), loc="left", fontsize=9.5, pad=3)
        axes.set_xlim(ends)
        axes.tick_params(labelsize=8, labelbottom=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for column in range(2):
        top = _TOP + rows * (_PANEL + _GAP) - 0.15
        _draw_strip(place(column, top, strip), images, count, ends, frame_rate)
    figure.text(_LEFT / _WIDTH, 1 - 0.28 / height, title, fontsize=12, weight="bold")
    figure.text(_LEFT / _WIDTH, 1 - 0.48 / height, _explain(played), fontsize=9)
    _legend(figure, bool(played.band), 1 - 0.58 / height)
    return figure


def _draw_number(axes: Any, played: Playback, spec: ActionSpec, field: ActionField, i: int) -> None:
    steps = np.arange(len(played))
    recorded, predicted = played.recorded[field.name][:, i], played.predicted[field.name][:, i]
    drawn = [recorded, predicted]
    if field.name in played.band:
        low, high = played.band[field.name][:, i].T
        drawn += [low, high]
        edges = np.arange(len(played) + 1) - 0.5  # a step is as wide as its frame stands
        axes.stairs(
            high, edges, baseline=low, fill=True, facecolor="0.86", edgecolor="0.6", linewidth=0.6
        )
    axes.plot(steps, recorded, color="black", linewidth=1.8)
    axes.plot(
        steps, predicted, color=COLOURS[1], linestyle="--", linewidth=1.3, marker="o",
        markersize=4.5, markerfacecolor="white",
    )  # fmt: skip
    bounds = np.asarray([field.low[i], field.high[i]])
    for bound in bounds:
        axes.axhline(bound, color="0.35", linestyle=":", linewidth=1.2)
    bin_width = (bounds[1] - bounds[0]) / (spec.bins - 1)
    still = np.ptp(recorded) < _STILL * bin_width
    axes.set_ylim(_limits(np.concatenate(drawn), bounds, still))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _limits(values: np.ndarray, bounds: np.ndarray, still: bool) -> tuple[float, float]:
    """All that is drawn; with the bounds, unless these would make motion look flat."""
    low, high = float(values.min()), float(values.max())
    if still or high - low > _WHOLE * (bounds[1] - bounds[0]):
        low, high = min(low, bounds[0]), max(high, bounds[1])
    margin = 0.1 * (high - low)
    return low - margin, high + margin


def _draw_mode(axes: Any, played: Playback, field: ActionField) -> None:
    steps = np.arange(len(played))
    axes.step(steps, played.recorded[field.name][:, 0], where="mid", color="black", linewidth=1.8)
    axes.plot(
        steps, played.first_probability[field.name], color=COLOURS[1], linestyle="--",
        linewidth=1.3, marker="o", markersize=4.5, markerfacecolor="white",
    )  # fmt: skip
    axes.set_ylim(-0.12, 1.12)
    axes.set_yticks([0, 0.5, 1])


def _heading(played: Playback, spec: ActionSpec, field: ActionField, i: int) -> str:
    token = sum(f.tokens for f in spec.fields[: spec.fields.index(field)]) + i
    right = f"right {played.accuracy()[token]:.0%}"
    name = spec.token_names[token].replace("_", " ")
    if field.kind == "one_hot":
        first = "terminating" if field.name.startswith("terminate") else "the first entry"
        return f"{name}: probability of {first}; {right}"
    if played.recorded_probability is not None:
        right += f", p {played.recorded_probability[:, token].mean():.2f}"
    unit = f" ({field.unit})" if len(field.unit) < 8 else ""
    return f"{name}{unit}: error {played.error(field.name)[i]:.2g}; {right}"


def _explain(played: Playback) -> str:
    text = "error: mean absolute error; right: share of steps with the recorded token"
    if played.recorded_probability is None:
        return f"{text}; this policy regresses its actions: no band, no probability of tokens"
    return f"{text}; p: mean probability of the recorded token"


def _draw_strip(
    axes: Any, images: np.ndarray, count: int, ends: tuple[float, float], frame_rate: float
) -> None:
    """Frames under the axis of time, each under its own step."""
    slots = np.linspace(*ends, count + 1)
    for left, right in itertools.pairwise(slots):
        step = round((left + right) / 2)
        gap = 0.02 * (right - left)
        axes.imshow(images[step], extent=(left + gap, right - gap, 0, 1), aspect="auto")
    axes.set_xlim(ends)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_xlabel(f"step, {frame_rate:g} a second" if frame_rate else "step", fontsize=9)


def _legend(figure: Figure, banded: bool, top: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color="black", linewidth=1.8, label="recorded"),
        Line2D(
            [], [], color=COLOURS[1], linestyle="--", marker="o", markerfacecolor="white",
            label="predicted",
        ),
    ]  # fmt: skip
    if banded:
        label = "5% to 95% of the predicted probability"
        handles.append(Patch(facecolor="0.86", edgecolor="0.6", label=label))
    handles.append(Line2D([], [], color="0.35", linestyle=":", label="bounds"))
    figure.legend(
        handles=handles, loc="upper left", ncols=len(handles), fontsize=9,
        bbox_to_anchor=(_LEFT / _WIDTH - 0.01, top + 0.012),
    )  # fmt: skip

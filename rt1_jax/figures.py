"""Figures in one style, legible in greyscale and to the colour-blind, as PNG and SVG.

    with figures.house_style():
        figure = figures.new_figure()
        axes = figure.add_subplot(xlabel="training episodes", ylabel="success rate")
        figures.error_bars(axes, [100, 300], [figures.Series("seen", rates, low, high)])
        figures.save_figure(figure, output / "scaling")

Matplotlib's object-oriented interface only: no window system, no global figure, no global style.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rt1_jax.files import write_atomically

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's palette; series differ in marker, dash and hatch as well."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), "-", "--", ":")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")

_STYLE = {
    "font.size": 11.0,
    "axes.titlesize": 11.0,
    "axes.labelsize": 11.0,
    "legend.fontsize": 10.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#d9dbde",
    "hatch.linewidth": 0.8,
    "image.interpolation": "none",
    "savefig.dpi": 150.0,
    "svg.fonttype": "path",
    "svg.hashsalt": "rt1_jax",  # equal figures give equal files
}
_NO_METADATA = {
    "png": {"Software": None},
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
}


@dataclasses.dataclass(frozen=True)
class Series:
    """Numbers of one kind with their intervals, one a place; NaN leaves a place empty.

    Attributes:
      name: for the legend.
      values: [places].
      low, high: [places], ends of the intervals; None draws none.
      samples: [places], what each value was pooled from (one number a seed), drawn as crosses on
        its bar; None draws none.
    """

    name: str
    values: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray | None = None
    high: Sequence[float] | np.ndarray | None = None
    samples: Sequence[Sequence[float]] | None = None

    def reach(self) -> np.ndarray | None:
        """Lengths of the whiskers: [2, places], below and above."""
        if self.low is None or self.high is None:
            return None
        values = np.asarray(self.values, float)
        lengths = np.stack([values - self.low, np.asarray(self.high, float) - values])
        return np.clip(lengths, 0, None)


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """The style, while drawing: a ``with`` block, or a decorator ``@house_style()``."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float = 7.0, height: float = 4.2) -> Figure:
    """An empty figure of that size in inches, whose parts make room for each other."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, stem: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Writes `stem.png` and `stem.svg`, each whole or not at all; gives their paths."""
    paths = []
    with house_style():
        for kind, metadata in _NO_METADATA.items():
            path = pathlib.Path(f"{os.fspath(stem)}.{kind}")

            def write(file: Any, kind: str = kind, metadata: Any = metadata) -> None:
                figure.savefig(file, format=kind, metadata=metadata)

            write_atomically(path, write)
            paths.append(path)
    return paths


def svg_element(path: str | os.PathLike[str]) -> str:
    """The `<svg>` element of a file, without what may only stand at the head of a document.

    Raises:
      FileNotFoundError: the figure has not been saved.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no figure {file}: save it with save_figure before the report")
    text = file.read_text()
    return re.sub(r"\s*(xmlns(:xlink)?)=\"[^\"]*\"", "", text[text.index("<svg") :])


def error_bars(axes: Any, x: Sequence[float] | np.ndarray, series: Sequence[Series]) -> None:
    """A line of marks with intervals for each series, at places x [places]; with a legend."""
    for i, one in enumerate(series):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        axes.errorbar(
            x, one.values, one.reach(), label=one.name, color=colour, marker=marker,
            linestyle=DASHES[i % len(DASHES)], linewidth=1.6, markersize=6.5, capsize=3.5,
            markerfacecolor=colour if i % 2 == 0 else "white", markeredgecolor=colour,
        )  # fmt: skip
    axes.grid(True)
    if len(series) > 1:
        axes.legend()


def bar_groups(axes: Any, groups: Sequence[str], series: Sequence[Series]) -> None:
    """For each group (named under the axis) one bar a series, with intervals; with a legend.

    A bar without height is drawn as a line on the axis; where a number is missing, nothing is.
    """
    places, width = np.arange(len(groups)), 0.8 / max(len(series), 1)
    for i, one in enumerate(series):
        colour, hatch = COLOURS[i % len(COLOURS)], HATCHES[i % len(HATCHES)]
        axes.bar(
            places + (i - (len(series) - 1) / 2) * width, one.values, width * 0.92,
            yerr=one.reach(), label=one.name, hatch=hatch, edgecolor=colour,
            facecolor=colour if not hatch else "white", capsize=3 if len(groups) < 12 else 2,
            error_kw={"linewidth": 1.2, "ecolor": "#333333"},
        )  # fmt: skip
        for place, samples in zip(places, one.samples or (), strict=False):
            # Beside the whisker, in a row, on a white edge: legible on any bar.
            middle = place + (i - (len(series) - 1) / 2) * width
            x = middle + width * np.resize((-0.24, 0.24), len(samples))
            edge = [patheffects.withStroke(linewidth=3, foreground="white")]
            axes.plot(
                x,
                samples,
                "x",
                color="black",
                markersize=5,
                path_effects=edge,
                zorder=4,
                clip_on=False,
            )
    axes.set_xticks(places, groups)
    axes.grid(True, axis="y")
    if len(series) > 1:
        axes.legend()

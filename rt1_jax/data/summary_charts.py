"""A dataset's summary drawn: histograms, lengths of episodes, strips of frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from rt1_jax.data.store import StepStore
from rt1_jax.figures import COLOURS, house_style, new_figure

_COLUMNS = 3
_GREY = "0.75"


@house_style()
def draw_fields(summary: dict[str, Any]) -> Figure:
    """A histogram for each number of the actions: counts, logarithmic, and dotted bounds."""
    panels = [
        (name, numbers, field, i)
        for field in summary["fields"].values()
        for i, (name, numbers) in enumerate(field["elements"].items())
    ]
    rows = -(-len(panels) // _COLUMNS)
    figure = new_figure(10.5, 0.4 + 1.75 * rows)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes, (name, numbers, field, i) in zip(grid.flat, panels, strict=False):
        _bars(axes, numbers["histogram"])
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        unit = f" ({field['unit']})" if len(field["unit"]) < 8 else ""
        axes.set_title(f"{name.replace('_', ' ')}{unit}", loc="left", fontsize=9)
        if field["kind"] != "one_hot":
            for bound in (field["low"][i], field["high"][i]):
                axes.axvline(bound, color="black", linestyle=":", linewidth=1.4)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel("steps", fontsize=9)
    return figure


@house_style()
def draw_lengths(summary: dict[str, Any]) -> Figure:
    """How many episodes have how many steps, and the median."""
    figure = new_figure(7, 3.2)
    axes = figure.add_subplot(xlabel="steps of an episode", ylabel="episodes")
    histogram = summary["lengths"]["histogram"]
    # A bar over whole steps n..m-1 stands from n - 1/2 to m - 1/2.
    shifted = {**histogram, "edges": [edge - 0.5 for edge in histogram["edges"]]}
    _bars(axes, shifted)
    median = summary["lengths"]["median"]
    axes.axvline(median, color=COLOURS[1], linestyle="--", label=f"median {median:g}")
    axes.legend()
    axes.grid(True, axis="y")
    return figure


def film_strip(store: StepStore, episode: int, frames: int = 8, height: int = 96) -> Image.Image:
    """Evenly spaced frames of an episode side by side, the first and last among them.

    Args:
      store: the dataset.
      episode: its number.
      frames: at most so many; only these are decoded.
      height: of the strip, in pixels.
    """
    length = int(store.lengths[episode])
    steps = np.unique(np.linspace(0, length - 1, min(frames, length)).round().astype(int))
    pictures = []
    for step in steps:
        picture = Image.fromarray(store.read(episode, int(step), 1).images[0])
        width = round(picture.width * height / picture.height)
        small = picture.height < height
        method = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        pictures.append(picture.resize((width, height), method))
    gap = 3
    sheet = Image.new("RGB", (sum(p.width + gap for p in pictures) - gap, height), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet


def _bars(axes: Any, histogram: dict[str, list[float]]) -> None:
    axes.stairs(
        histogram["counts"], histogram["edges"], fill=True, facecolor=_GREY, edgecolor="black"
    )

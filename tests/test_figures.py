"""The shared style of figures, and means with intervals."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from rt1_jax import figures
from rt1_jax.analysis.intervals import mean_interval


def draw() -> figures.Figure:
    with figures.house_style():
        figure = figures.new_figure(4, 3)
        above, below = figure.subplots(2, 1)
        series = [
            figures.Series("RT-1", [0.5, 0.9], [0.4, 0.8], [0.6, 0.95]),
            figures.Series("no FiLM", [0.2, np.nan]),
        ]
        figures.error_bars(above, [100, 300], series)
        figures.bar_groups(below, ["seen", "unseen"], series)
    return figure


def test_saves_equal_files_for_equal_figures(tmp_path: Path) -> None:
    paths = figures.save_figure(draw(), tmp_path / "deep" / "a.b")
    assert [path.name for path in paths] == ["a.b.png", "a.b.svg"]
    again = figures.save_figure(draw(), tmp_path / "again")
    for path, other in zip(paths, again, strict=True):
        assert path.read_bytes() == other.read_bytes()
    with Image.open(paths[0]) as picture:
        assert picture.size == (600, 450)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "a.b.png", "a.b.svg", "again.png", "again.svg",
    ]  # fmt: skip


def test_series_differ_without_colour() -> None:
    above, below = draw().axes
    lines = [container.lines[0] for container in above.containers]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 2
    hatches = [bars[0].get_hatch() for bars in below.containers if hasattr(bars, "patches")]
    assert len(set(hatches)) == 2
    assert [text.get_text() for text in below.get_legend().get_texts()] == ["RT-1", "no FiLM"]
    assert len(set(zip(figures.COLOURS, figures.MARKERS, figures.HATCHES, strict=True))) == 7


def test_intervals_reach_from_low_to_high() -> None:
    reach = figures.Series("a", [0.5, 1.0], [0.4, 0.8], [0.7, 1.0]).reach()
    np.testing.assert_allclose(reach, [[0.1, 0.2], [0.2, 0.0]], atol=1e-12)
    assert figures.Series("a", [0.5]).reach() is None


def test_style_is_left_as_it_was() -> None:
    before = matplotlib.rcParams["font.size"]
    draw()
    assert matplotlib.rcParams["font.size"] == before


def test_mean_interval() -> None:
    found = mean_interval([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    half = 4.302653 / np.sqrt(3)  # t quantile for 2 degrees of freedom, standard deviation 1
    np.testing.assert_allclose(found.mean, [2, 5])
    np.testing.assert_allclose([found.low[0], found.high[0]], [2 - half, 2 + half], rtol=1e-6)
    assert found[1].text() == "5.00 [5.00, 5.00]"
    assert mean_interval([4.0]).text(1) == "4.0"
    assert mean_interval(np.zeros((0,))).text() == "–"
    assert found.to_json()["samples"] == 3


@pytest.mark.parametrize("count", [0, 1])
def test_no_interval_from_less_than_two_samples(count: int) -> None:
    found = mean_interval(np.ones((count, 2)))
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt1_jax.evaluation.charts import Interval, Series, interval_chart, line_chart, nice_ticks, thin

finite = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(finite, finite)
def test_ticks_enclose_and_are_few(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    ticks = nice_ticks(low, high)
    slack = 1e-6 * max(1, abs(low), abs(high))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))


def test_thin_keeps_means_and_ends() -> None:
    points = [(float(i), float(i)) for i in range(1000)]
    kept = thin(points, 300)
    assert len(kept) == 250
    assert kept[0] == (1.5, 1.5)
    assert kept[-1] == (997.5, 997.5)
    assert thin(points[:300], 300) == points[:300]


def coordinates(svg: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'points="([^"]*)"', svg)
    return [[tuple(map(float, p.split(","))) for p in line.split()] for line in found]


def test_line_chart_places_points() -> None:
    svg = line_chart(
        "Loss <b>", [Series("train", [(0, 0.0), (50, 1.0), (100, 2.0)]), Series("x", [(0, 2.0)])]
    )
    ElementTree.fromstring(svg)
    assert "Loss &lt;b&gt;" in svg
    second, first = coordinates(svg)
    xs, ys = zip(*first, strict=True)
    assert xs[2] - xs[1] == pytest.approx(xs[1] - xs[0])
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2])
    assert ys[0] > ys[2]  # SVG's y points down
    assert second == [(xs[0], ys[2])]


def test_log_chart_spaces_factors_evenly_and_drops_what_has_no_logarithm() -> None:
    points = [(0, 4.0), (1, 2.0), (2, 1.0), (3, 0.0), (4, float("nan"))]
    (line,) = coordinates(line_chart("Loss", [Series("train", points)], log=True))
    assert len(line) == 3
    assert line[1][1] - line[0][1] == pytest.approx(line[2][1] - line[1][1], abs=0.11)


def test_nothing_to_draw() -> None:
    assert line_chart("Loss", [Series("train", [(0, float("nan"))])]) == ""


def test_interval_chart_is_to_scale() -> None:
    svg = interval_chart([("seen", [Interval(0, 0.5, 0.25, 1.0)])], {0: "policy"})
    ElementTree.fromstring(svg)
    whisker = re.search(r'class="line s0" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="\2"', svg)
    circles = re.findall(r'<circle cx="([\d.]+)"', svg)
    assert whisker is not None
    low, high = float(whisker[1]), float(whisker[3])
    assert float(circles[-1]) == pytest.approx(low + (high - low) / 3, abs=0.1)

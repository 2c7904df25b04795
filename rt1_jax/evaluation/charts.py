"""Small inline SVG charts. Colours come from the page's CSS; series differ by shape and dash."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape

_DASHES = ("", "6 4", "2 3", "8 3 2 3")
_MARKERS = 6  # shape size


@dataclasses.dataclass(frozen=True)
class Series:
    """A named line through (x, y) points."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A proportion with its interval, all in [0, 1]."""

    series: int
    rate: float
    low: float
    high: float


def line_chart(
    title: str, series: Sequence[Series], *, width: int = 366, height: int = 250, log: bool = False
) -> str:
    """Lines over training steps as SVG; with `log`, the y axis is logarithmic."""
    kept = [Series(s.name, thin([p for p in s.points if _plottable(p[1], log)])) for s in series]
    kept = [s for s in kept if s.points]
    if not kept:
        return ""
    xs = [x for s in kept for x, _ in s.points]
    ys = [y for s in kept for _, y in s.points]
    ticks_y = (_log_ticks if log else nice_ticks)(min(ys), max(ys))
    ticks_x = nice_ticks(min(xs), max(xs))
    left, right, top, bottom = 52, 12, 50, 40
    y0, y1 = min(*ys, ticks_y[0]), max(*ys, ticks_y[-1])
    x0, x1 = min(xs), max(*xs, min(xs) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        low, high, value = (math.log(v) for v in (y0, y1, y)) if log else (y0, y1, y)
        across = left + (x - x0) / (x1 - x0) * (width - left - right)
        return across, height - bottom - (value - low) / (high - low or 1) * (height - top - bottom)

    parts = [
        _open(width, height, title),
        f'<text class="title" x="{left}" y="16">{escape(title)}</text>',
    ]
    for tick in ticks_y:
        _, y = place(x0, tick)
        parts.append(_line("grid", left, y, width - right, y))
        parts.append(f'<text class="tick end" x="{left - 6}" y="{y + 4:.1f}">{tick:g}</text>')
    for tick in ticks_x:
        if x0 <= tick <= x1:
            x, _ = place(tick, y0)
            y = height - bottom + 16
            parts.append(f'<text class="tick mid" x="{x:.1f}" y="{y}">{_short(tick)}</text>')
    middle = (left + width - right) / 2
    parts.append(f'<text class="tick mid" x="{middle:.0f}" y="{height - 6}">step</text>')
    legend = float(width - right)
    for number, s in reversed(list(enumerate(kept))):
        placed = [place(*p) for p in s.points]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        if len(placed) == 1:  # no line to see
            (x, y) = placed[0]
            parts.append(f'<circle class="mark s{number}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
        dash = _DASHES[number % len(_DASHES)]
        parts.append(
            f'<polyline class="line s{number}" stroke-dasharray="{dash}" points="{points}"/>'
        )
        # Right-aligned legend; 6.3 px a letter at this size.
        text = legend - 6.3 * len(s.name)
        parts.append(f'<text class="tick" x="{text:.0f}" y="36">{escape(s.name)}</text>')
        parts.append(
            f'<line class="line s{number}" stroke-dasharray="{dash}" '
            f'x1="{text - 28:.0f}" y1="32" x2="{text - 5:.0f}" y2="32"/>'
        )
        legend = text - 40
    return "".join([*parts, "</svg>"])


def interval_chart(
    rows: Sequence[tuple[str, Sequence[Interval]]], names: Mapping[int, str], *, width: int = 760
) -> str:
    """Rates with whiskers as SVG.

    Args:
      rows: label and marks of each row.
      names: series number -> its name in the legend; the number chooses the marker's shape.
      width: in pixels.
    """
    left, right, top, bottom = 230, 24, 34, 30
    pitch = 14 * max(1, max((len(marks) for _, marks in rows), default=1)) + 10
    height = top + pitch * len(rows) + bottom

    def place(rate: float) -> float:
        return left + rate * (width - left - right)

    parts = [_open(width, height, "Success rates with 95% intervals")]
    x = float(left)
    for number, name in names.items():
        parts.append(_marker(number, x + 6, 14))
        parts.append(f'<text class="tick" x="{x + 17:.0f}" y="18">{escape(name)}</text>')
        x += 32 + 6.6 * len(name)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        at = place(tick)
        parts.append(_line("grid", at, top, at, height - bottom))
        parts.append(f'<text class="tick mid" x="{at:.1f}" y="{height - 10}">{tick:.0%}</text>')
    for row, (label, marks) in enumerate(rows):
        y = top + pitch * row + pitch / 2
        parts.append(
            f'<text class="label end" x="{left - 12}" y="{y + 4:.1f}">{escape(label)}</text>'
        )
        for number, mark in enumerate(marks):
            level = y + 14 * (number - (len(marks) - 1) / 2)
            low, high = place(mark.low), place(mark.high)
            kind = f"line s{mark.series}"
            parts.append(_line(kind, low, level, high, level))
            parts.extend(_line(kind, end, level - 4, end, level + 4) for end in (low, high))
            parts.append(_marker(mark.series, place(mark.rate), level))
    return "".join([*parts, "</svg>"])


def thin(points: Sequence[tuple[float, float]], limit: int = 300) -> list[tuple[float, float]]:
    """At most `limit` points: means over equal runs of points."""
    run = math.ceil(len(points) / limit)
    if run <= 1:
        return list(points)
    groups = [points[i : i + run] for i in range(0, len(points), run)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - raw))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    candidates = [m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5)]
    first = max((c for c in candidates if c <= low), default=low)
    last = min((c for c in candidates if c >= high), default=high)
    ticks = [c for c in candidates if first <= c <= last]
    if len(ticks) < 4:  # less than a decade: round numbers of even distance read better
        return [tick for tick in nice_ticks(low, high) if tick > 0]
    return ticks if len(ticks) <= 8 else [t for t in ticks if f"{t:e}".startswith("1")] or ticks


def _plottable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _open(width: int, height: int, label: str) -> str:
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">'
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _marker(series: int, x: float, y: float) -> str:
    r = _MARKERS
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r - 1}" class="mark s{series}"/>',
        f'<path d="M{x - r + 1:.1f} {y - r + 1:.1f} l{2 * r - 2} {2 * r - 2} m0 {2 - 2 * r} '
        f'l{2 - 2 * r} {2 * r - 2}" class="line cross s{series}"/>',
        f'<path d="M{x:.1f} {y - r:.1f} l{r} {2 * r - 1} h{-2 * r} z" class="mark s{series}"/>',
    )
    return shapes[series % len(shapes)]


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"

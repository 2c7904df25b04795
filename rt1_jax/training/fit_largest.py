"""The largest batch a chip, predicted by a straight line and tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Measure = Callable[[int], dict[str, Any]]


def guess_largest(report: dict[str, Any]) -> dict[str, Any] | None:
    """From one compile alone: temporaries as if each were proportional to the batch.

    Gradients and what XLA keeps of the parameters are not, so a larger batch may fit.

    Returns:
      {"per_device_batch", "how"}, or None without memory that could be filled.
    """
    if report["chip_bytes"] is None or not report["temp_bytes"]:
        return None
    batch, step = report["per_device_batch"], report["accumulate"]
    state = report["memory_bytes"] - report["temp_bytes"]
    room = (report["chip_bytes"] - state) / report["temp_bytes"] * batch
    return {"per_device_batch": _whole(room, step), "how": "guessed from one compile"}


def line_through(
    first: tuple[float, float], second: tuple[float, float]
) -> tuple[float, float] | None:
    """(bytes without windows, bytes a window) of two (batch, bytes); None if it does not rise."""
    if first[0] == second[0]:
        return None
    slope = (second[1] - first[1]) / (second[0] - first[0])
    return (first[1] - slope * first[0], slope) if slope > 0 else None


def find_largest(report: dict[str, Any], measure: Measure, tries: int = 3) -> dict[str, Any] | None:
    """Compiles a smaller batch, predicts the largest by a line, and compiles there.

    Args:
      report: of `measure` at the asked batch.
      measure: windows a device -> report.
      tries: compiles at most at the prediction and, if that is too large, a tenth below.

    Returns:
      {"per_device_batch", "how", "bytes_a_window", "fixed_bytes", "tried": [[batch, bytes, fits]]}
      where "how" says whether it was confirmed; None without a chip or a batch to halve.
    """
    batch, step, chip = report["per_device_batch"], report["accumulate"], report["chip_bytes"]
    smaller = _whole(batch / 2, step)
    if chip is None or not smaller or smaller == batch or not report["memory_bytes"]:
        return guess_largest(report)
    half = measure(smaller)
    tried = [_row(report), _row(half)]
    if not half["memory_bytes"]:
        return None
    line = line_through((batch, report["memory_bytes"]), (smaller, half["memory_bytes"]))
    if line is None:
        return guess_largest(report)
    fixed, slope = line
    predicted = _whole((chip - fixed) / slope, step)
    found = {
        "per_device_batch": predicted,
        "how": "predicted by a line through two compiles, not confirmed",
        "fixed_bytes": fixed,
        "bytes_a_window": slope,
        "tried": tried,
    }
    candidate = predicted
    for _ in range(tries):
        if candidate < step:
            break
        known = next((r for r in tried if r[0] == candidate), None)
        if known is None:
            known = _row(measure(candidate))
            tried.append(known)
        if known[2]:
            return found | {"per_device_batch": candidate, "how": "confirmed by compiling there"}
        candidate = min(candidate - step, _whole(candidate * 0.9, step))
    return found


def _row(report: dict[str, Any]) -> list[Any]:
    return [report["per_device_batch"], report["memory_bytes"], report["fits"]]


def _whole(batch: float, step: int) -> int:
    """The multiple of `step` at or below."""
    return max(0, int(batch // step) * step)

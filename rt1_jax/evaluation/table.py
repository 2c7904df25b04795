"""The results as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rt1_jax.evaluation.episodes import ALL_SKILLS, CONDITIONS, POLICY


def format_table(results: dict[str, Any]) -> str:
    """Success per split and skill under each condition, and the offline numbers, as plain text."""
    blocks = []
    if results["closed_loop"]:
        blocks.append(_success(results["closed_loop"]["summary"]))
    if results["offline"]:
        blocks.append(_offline(results["offline"]))
    return "\n\n".join(blocks)


def _success(summary: dict[str, Any]) -> str:
    conditions = [c for c in CONDITIONS if c in summary]
    rows = [["split", "skill", *(c.replace("_", " ") for c in conditions), "steps", "terminate"]]
    for split, skills in summary[POLICY].items():
        for skill in skills:
            numbers = [summary[c][split][skill] for c in conditions]
            steps = numbers[0]["mean_steps_of_successes"]
            rows.append(
                [
                    split if skill == ALL_SKILLS else "",
                    skill,
                    *(_rate(n) for n in numbers),
                    "-" if steps is None else f"{steps:.1f}",
                    _percent(numbers[0]["terminate_accuracy"]),
                ]
            )
    return _align(rows)


def _offline(numbers: dict[str, Any]) -> str:
    rows = [["token", "accuracy", "majority", "cross-entropy"]]
    for name, n in numbers["tokens"].items():
        entropy = _nats(n["cross_entropy"])
        rows.append([name, _percent(n["accuracy"]), _percent(n["majority_accuracy"]), entropy])
    rows.append(
        [
            "mean",
            _percent(numbers["token_accuracy"]),
            _percent(numbers["majority_accuracy"]),
            _nats(numbers["cross_entropy"]),
        ]
    )
    errors = [["field", "mean absolute error", "unit"]]
    for name, n in numbers["fields"].items():
        values = ", ".join(f"{e:.4f}" for e in n["mean_absolute_error"])
        errors.append([name, values, n["unit"]])
    # Results of before have no such key.
    note = (numbers.get("training") or {}).get("note", "")
    return "\n\n".join([_align(rows), _align(errors), *([note] if note else [])])


def _rate(numbers: dict[str, Any]) -> str:
    low, high = numbers["interval"]
    return (
        f"{numbers['successes']}/{numbers['episodes']} {_percent(numbers['success_rate'])} "
        f"[{_percent(low)}, {_percent(high)}]"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}%"


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _align(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

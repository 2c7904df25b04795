"""The fit check's numbers as text: a table of one config, or two side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rt1_jax.training.hlo_collectives import KINDS

GIB = 2**30

_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("batch_size", "windows a step", lambda n: f"{n:,.0f}"),
    ("per_device_batch", "windows a chip", lambda n: f"{n:,.0f}"),
    ("parameters", "parameters", lambda n: f"{n:,.0f}"),
    ("memory_bytes", "memory a chip", lambda n: _bytes(n)),
    ("argument_bytes", "  arguments", lambda n: _bytes(n)),
    ("temp_bytes", "  temporaries", lambda n: _bytes(n)),
    ("output_bytes", "  output", lambda n: _bytes(n)),
    ("alias_bytes", "  of it donated", lambda n: _bytes(n)),
    ("chip_bytes", "the chip has", lambda n: _bytes(n)),
    ("traffic_bytes", "memory traffic", lambda n: f"{n / 1e9:.3g} GB"),
    ("flops", "FLOP", lambda n: f"{n / 1e12:.3g} T"),
    ("wire_bytes", "sent to other chips", lambda n: f"{n / 1e6:.3g} MB"),
    ("seconds.memory", "time for memory", lambda n: f"{n * 1e3:.3g} ms"),
    ("seconds.compute", "time for compute", lambda n: f"{n * 1e3:.3g} ms"),
    ("seconds.interconnect", "time for interconnect", lambda n: f"{n * 1e3:.3g} ms"),
    ("windows_per_second", "windows/s at most", lambda n: f"{n:,.0f}"),
    ("compile_seconds", "compiled in", lambda n: f"{n:.0f} s"),
)


def format_report(report: dict[str, Any]) -> str:
    """One config: numbers a chip and a step, the verdict, and what helps if it does not fit."""
    head = f"{report['name']} on {report['topology']}, {report['devices']} devices"
    rows = [
        [label, text(value)]
        for key, label, text in _ROWS
        if (value := _value(report, key)) is not None
    ]
    rows += [[kind, _collective(n)] for kind, n in (report["collectives"] or {}).items()]
    return "\n".join([head, "", _align(rows), "", *_verdict(report)])


def format_comparison(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Two configs side by side, and the second's numbers over the first's."""
    rows = [["", first["name"], second["name"], "ratio"]]
    for key, label, text in _ROWS:
        a, b = _value(first, key), _value(second, key)
        if a is None and b is None:
            continue
        ratio = f"{b / a:.2f}" if a and b is not None else "-"
        rows.append([label, "-" if a is None else text(a), "-" if b is None else text(b), ratio])
    for kind in KINDS:
        one, other = ((r["collectives"] or {}).get(kind) for r in (first, second))
        if one or other:
            ratio = f"{other['bytes'] / one['bytes']:.2f}" if one and other else "-"
            rows.append([kind, *(_collective(n) if n else "-" for n in (one, other)), ratio])
    rows.append(["fits", *("yes" if r["fits"] else "no" for r in (first, second)), ""])
    rows.append(["bound by", *(r.get("bound") or "-" for r in (first, second)), ""])
    notes = [f"{r['name']}: {line}" for r in (first, second) for line in _verdict(r)]
    return "\n".join([f"on {first['topology']}", "", _align(rows), "", *notes])


def too_large(report: dict[str, Any]) -> str:
    """By how much a step does not fit, in one sentence."""
    if report["memory_bytes"] is None:
        return f"does not fit: {report.get('xla', 'XLA does not say by how much')}"
    return (
        f"does not fit: {_bytes(report['memory_bytes'])} needed a chip, "
        f"{_bytes(report['chip_bytes'])} there, {_bytes(report['short_bytes'])} too much"
    )


def _verdict(report: dict[str, Any]) -> list[str]:
    lines = []
    if not report["fits"]:
        lines.append(too_large(report))
        lines += [f"  helps: {one}" for one in report["help"]]
    elif report["chip_bytes"]:
        share = report["memory_bytes"] / report["chip_bytes"]
        lines.append(f"fits: {share:.0%} of the chip's memory")
    if report.get("bound"):
        lines.append(
            f"bound by {report['bound']}, by the chip's published rates (rt1_jax/training/chips.py)"
        )
    loops = report.get("loops")
    if loops and loops["corrected"]:
        lines.append(
            f"XLA counts the accumulation's loop once: its traffic and FLOP here are taken "
            f"{report['accumulate']} times, an estimate"
        )
    if loops and loops["unknown"]:
        lines.append(f"{loops['unknown']} loops of unknown length are counted as one turn each")
    if report.get("largest"):
        largest = report["largest"]
        lines.append(f"largest batch: {largest['per_device_batch']} a chip, {largest['how']}")
    return lines


def _value(report: dict[str, Any], key: str) -> float | None:
    value: Any = report
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _bytes(n: float) -> str:
    return f"{n / GIB:.2f} GiB" if n >= GIB / 10 else f"{n / 2**20:.2f} MiB"


def _collective(n: dict[str, int]) -> str:
    repeated = "" if n["executions"] == n["instructions"] else f", run {n['executions']} times"
    return f"{n['instructions']}{repeated}, {n['bytes'] / 1e6:.3g} MB"


def _align(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)

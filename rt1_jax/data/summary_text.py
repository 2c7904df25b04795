"""A dataset's summary as text for the terminal, and its rows for any table."""

from __future__ import annotations

from typing import Any

COLUMNS = ("min", "q01", "q50", "q99", "max", "mean", "std", "clipped")
HEADINGS = ("min", "1%", "median", "99%", "max", "mean", "std", "clipped")


def facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What the dataset is: (name, value)."""
    height, width = summary["image_size"]
    lengths, sample = summary["lengths"], summary["sample"]
    rate = f"{summary['frame_rate']:g} Hz" if summary["hours"] is not None else "rate not known"
    hours = "" if summary["hours"] is None else f", {summary['hours']:.2f} h"
    source = summary["source"]
    return [
        ("episodes", f"{summary['episodes']:,}"),
        ("steps", f"{summary['steps']:,}{hours} at {rate}" if hours else f"{summary['steps']:,}"),
        (
            "steps an episode",
            f"{lengths['min']} to {lengths['max']}, median {lengths['median']:g}, mean "
            f"{lengths['mean']:.1f}, 1% and 99% {lengths['q01']:g} and {lengths['q99']:g}",
        ),
        ("frames", f"{height}×{width} (height × width), {summary['image_format']}"),
        ("encoder", f"{summary['encoder']['name']}, {summary['encoder']['dimensions']} numbers"),
        ("actions", f"spec {summary['action_spec']}"),
        (
            "bytes",
            f"{summary['bytes']:,} in {summary['shards']} shards, "
            f"{summary['bytes'] / max(summary['steps'], 1):,.0f} a step",
        ),
        ("source", ", ".join(f"{key}={value}" for key, value in source.items()) or "not told"),
        (
            "read for histograms",
            f"all {sample['of']:,} steps"
            if sample["steps"] == sample["of"]
            else f"{sample['steps']:,} of {sample['of']:,} steps, drawn at random",
        ),
    ]


def field_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row a number of the actions: its name, its unit, and `COLUMNS`."""
    rows = []
    for field in summary["fields"].values():
        for name, numbers in field["elements"].items():
            cells = []
            for column in COLUMNS:
                value = numbers[column]
                if value is None:
                    cells.append("–")
                elif column == "clipped":
                    cells.append(f"{value:.2%}")
                else:
                    cells.append(f"{value + 0.0:.4g}")  # -0 becomes 0
            unit = field["unit"] if len(field["unit"]) < 8 else ""
            rows.append((name, unit, *cells))
    return rows


def sampled_note(summary: dict[str, Any]) -> str:
    """Says which columns are of the sampled steps alone; empty where none is."""
    names = dict(zip(COLUMNS, HEADINGS, strict=True))
    sample = summary["sample"]
    columns = [names[key] for key in COLUMNS if key in summary["from_sample"]]
    if not columns or sample["steps"] == sample["of"]:
        return ""
    return (
        f"{', '.join(columns)}: of {sample['steps']:,} sampled steps, since this older dataset "
        "does not hold them for all"
    )


def format_summary(summary: dict[str, Any]) -> str:
    """The whole summary as text."""
    about = facts(summary)
    wide = max(len(name) for name, _ in about)
    lines = [summary["dataset"], *(f"  {name:<{wide}}  {value}" for name, value in about), ""]
    lines += _table([("number", "unit", *HEADINGS), *field_rows(summary)])
    if note := sampled_note(summary):
        lines.append(note)
    told = summary["instructions"]
    lines += ["", f"{told['distinct']:,} instructions, {told['once']:,} of them told once:"]
    lines += [f"  {count:>7,}  {text}" for text, count in told["most_common"]]
    left = told["distinct"] - len(told["most_common"])
    if left > 0:
        lines.append(f"  and {left:,} more")
    lines += ["", "oddities:" if summary["oddities"] else "oddities: none found"]
    for oddity in summary["oddities"]:
        lines.append(f"  {oddity['text']}{_examples(oddity)}")
    return "\n".join(lines)


def _examples(oddity: dict[str, Any]) -> str:
    if oddity["kind"] == "one_step":
        return f" (such as {', '.join(str(e) for e in oddity['examples'])})"
    if oddity["kind"] == "near_duplicate":
        return f" (such as {' and '.join(repr(text) for text in oddity['examples'][0])})"
    return ""


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        named = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        numbers = [c.rjust(width) for c, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*named, *numbers]).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return lines

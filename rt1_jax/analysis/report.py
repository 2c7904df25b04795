"""What every analysis leaves: `results.json` for programs and `report.html` for people.

`results.json`: format "rt1_jax.analysis", version 1, title, created (UTC, ISO 8601), machine,
summary and notes (sentences), results (the analysis' own numbers, NaN as null).
"""

from __future__ import annotations

import datetime
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from rt1_jax.evaluation.results import describe_machine
from rt1_jax.figures import svg_element
from rt1_jax.files import write_atomically

FORMAT = "rt1_jax.analysis"
VERSION = 1


def write_analysis(
    directory: str | os.PathLike[str],
    title: str,
    summary: Sequence[str],
    figures: Sequence[tuple[str, str]],
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[Any]]]],
    results: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes `results.json` and a self-contained `report.html`, and gives the former's content.

    Args:
      directory: made if missing; the figures are in it already.
      title: heading of the page.
      summary: the answers, a sentence or two each, at the top of the page.
      figures: (stem, caption), in the page's order; `stem.svg` was put into the directory by
        `figures.save_figure(figure, directory / stem)`.
      tables: (caption, header, rows); a cell is text, a number (shown with three digits) or None.
      results: JSON-able, where arrays, NumPy numbers and paths count as such.
      notes: how it was made, what could not be drawn or measured, what the numbers cannot tell.

    Raises:
      FileNotFoundError: a figure has not been saved.
      ValueError: a table's row is not as long as its header.
    """
    root = pathlib.Path(directory)
    for caption, header, rows in tables:
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"table {caption!r}: row {list(row)} under header {list(header)}")
    content: dict[str, Any] = _plain(
        {
            "format": FORMAT,
            "version": VERSION,
            "title": title,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "summary": summary,
            "notes": notes,
            "results": results,
        }
    )
    environment = jinja2.Environment(
        # The style sheet is the evaluation report's.
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("rt1_jax.analysis", "templates"),
                jinja2.PackageLoader("rt1_jax.evaluation", "templates"),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    page = environment.get_template("analysis.html").render(
        content=content,
        figures=[(Markup(svg_element(root / f"{stem}.svg")), caption) for stem, caption in figures],
        tables=tables,
    )
    write_atomically(root / "report.html", page)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(root / "results.json", text + "\n")
    return content


def _plain(value: Any) -> Any:
    """The same in JSON's own types; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return value


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)

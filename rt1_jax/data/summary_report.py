"""A dataset's summary as files: `report.html`, `summary.json`, figures, strips of frames."""

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from rt1_jax.data import summary_text
from rt1_jax.data.store import StepStore
from rt1_jax.files import write_atomically


def write_summary(
    directory: str | os.PathLike[str],
    store: StepStore,
    summary: dict[str, Any],
    episodes: Sequence[int],
) -> None:
    """Writes `fields` and `lengths` (PNG and SVG), `episode-N.png`, the page and the numbers.

    Args:
      directory: made if missing.
      store: the dataset.
      summary: of `rt1_jax.data.summary.summarise`.
      episodes: whose frames are shown.
    """
    # Here, since only drawing needs matplotlib.
    from rt1_jax.data import summary_charts
    from rt1_jax.figures import save_figure, svg_element

    root = pathlib.Path(directory)
    charts = {"fields": summary_charts.draw_fields, "lengths": summary_charts.draw_lengths}
    for stem, draw in charts.items():
        save_figure(draw(summary), root / stem)
    films = []
    for number in episodes:
        buffer = io.BytesIO()
        summary_charts.film_strip(store, number).save(buffer, "png")
        write_atomically(root / f"episode-{number}.png", buffer.getvalue())
        films.append(
            {
                "number": number,
                "instruction": store.instructions[int(store.instruction_ids[number])],
                "steps": int(store.lengths[number]),
                "strip": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}",
            }
        )
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rt1_jax.data", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("summary.html").render(
        summary=summary,
        facts=summary_text.facts(summary),
        headings=summary_text.HEADINGS,
        rows=summary_text.field_rows(summary),
        note=summary_text.sampled_note(summary),
        figures={stem: Markup(svg_element(root / f"{stem}.svg")) for stem in charts},
        films=films,
    )
    write_atomically(root / "report.html", page)
    text = json.dumps(summary, indent=1, ensure_ascii=False)
    write_atomically(root / "summary.json", text + "\n")


def evenly_spread(episodes: int, count: int) -> list[int]:
    """At most `count` episode numbers, the first among them."""
    return sorted({int(i) for i in np.linspace(0, episodes, count, endpoint=False)})

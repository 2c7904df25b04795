"""`report.html`: one self-contained page with tables, curves and films."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from rt1_jax.actions import ActionSpec
from rt1_jax.evaluation import charts, pictures
from rt1_jax.evaluation.episodes import ALL_SKILLS, CONDITIONS, EXPERT, POLICY, WRONG_INSTRUCTION
from rt1_jax.evaluation.film import Film
from rt1_jax.files import write_atomically

TITLES = {POLICY: "policy", WRONG_INSTRUCTION: "wrong instruction", EXPERT: "expert"}
DEFAULT_FRAME_RATE = 3.0
_MOST_ROWS = 16  # of the chart; beyond, it shows the splits' totals only


def write_report(
    path: str | os.PathLike[str],
    results: dict[str, Any],
    *,
    films: Sequence[Film] = (),
    spec: ActionSpec | None = None,
    frame_rate: float = DEFAULT_FRAME_RATE,
    training: Sequence[dict[str, Any]] = (),
) -> None:
    """Writes the page; it needs nothing but itself.

    Args:
      path: of the HTML file.
      results: the content of `results.json`.
      films: episodes to show.
      spec: of the filmed actions; needed with films.
      frame_rate: control steps a second, the animations' speed.
      training: rows of the run's `metrics.jsonl`, {"step", "split", name: number}.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rt1_jax.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "number": _number, "words": _words}
    shown = [_show(film, spec, frame_rate) for film in films] if spec is not None else []
    page = environment.get_template("report.html").render(
        results=results,
        headline=_headline(results),
        table=_table(results),
        conditions=[c for c in CONDITIONS if c in _summary(results)],
        titles=TITLES,
        intervals=_interval_chart(results),
        curves=training_charts(training),
        films=shown,
        legend=pictures.bar_legend(spec) if shown and spec is not None else "",
    )
    write_atomically(path, page)


def training_charts(rows: Sequence[dict[str, Any]]) -> list[Markup]:
    """Loss, token accuracy and translation error over training steps, where they were logged."""
    splits = list(dict.fromkeys(row["split"] for row in rows))

    def series(key: str, split: str, name: str) -> charts.Series:
        points = [(r["step"], r[key]) for r in rows if r["split"] == split and key in r]
        return charts.Series(name, points)

    errors = list(dict.fromkeys(k for row in rows for k in row if k.startswith("error/world_")))
    held_out = "validation" if "validation" in splits else (splits or [""])[-1]
    drawn = [
        charts.line_chart(
            "Loss (nats per token)", [series("loss", s, s) for s in splits], log=True
        ),
        charts.line_chart("Token accuracy", [series("token_accuracy", s, s) for s in splits]),
        charts.line_chart(
            f"Translation error, {held_out} (m)",
            [series(key, held_out, key.rsplit("/", 1)[-1]) for key in errors[:3]],
        ),
    ]
    return [Markup(svg) for svg in drawn if svg]


@dataclasses.dataclass(frozen=True)
class _ShownFilm:
    """A film as the template draws it."""

    title: str
    outcome: str
    success: bool
    instruction: str
    told: str | None
    animation: str
    strip: str


@dataclasses.dataclass(frozen=True)
class _Row:
    """One line of the success table: a split's skill under every condition."""

    split: str
    skill: str
    is_total: bool
    of: dict[str, dict[str, Any]]


def _show(film: Film, spec: ActionSpec, frame_rate: float) -> _ShownFilm:
    result, request = film.result, film.request
    assert result is not None  # film.request has checked it
    wrong = request.condition == WRONG_INSTRUCTION
    word = "success" if result.success else "failure"
    return _ShownFilm(
        title=f"{request.split} · {request.skill} · seed {request.seed}"
        + (" · control: wrong instruction" if wrong else ""),
        outcome=f"{word} after {result.steps} steps",
        success=result.success,
        instruction=result.instruction,
        told=result.told if wrong else None,
        animation=pictures.data_uri(pictures.animation(film, spec, frame_rate)),
        strip=pictures.data_uri(pictures.strip(film, spec)),
    )


def _summary(results: dict[str, Any]) -> dict[str, Any]:
    closed_loop = results["closed_loop"]
    return closed_loop["summary"] if closed_loop else {}


def _table(results: dict[str, Any]) -> list[_Row]:
    summary = _summary(results)
    rows = []
    for split, skills in summary.get(POLICY, {}).items():
        names = [s for s in skills if s != ALL_SKILLS]
        # A single skill is its split's total.
        for skill in [ALL_SKILLS, *(names if len(names) > 1 else [])]:
            of = {c: summary[c][split][skill] for c in CONDITIONS if c in summary}
            label = names[0] if skill == ALL_SKILLS and len(names) == 1 else skill
            rows.append(_Row(split, label, skill == ALL_SKILLS, of))
    return rows


def _headline(results: dict[str, Any]) -> list[str]:
    lines = []
    for split, skills in _summary(results).get(POLICY, {}).items():
        total = skills[ALL_SKILLS]
        line = (
            f"{_words(split)}: {total['successes']} of {total['episodes']} episodes succeed "
            f"({_percent(total['success_rate'])}; 95% interval "
            f"{_percent(total['interval'][0])} to {_percent(total['interval'][1])})"
        )
        wrong = _summary(results).get(WRONG_INSTRUCTION, {}).get(split, {}).get(ALL_SKILLS)
        if wrong:
            line += f"; {_percent(wrong['success_rate'])} when told the wrong thing"
        lines.append(line + ".")
    if results["offline"]:
        numbers = results["offline"]
        lines.append(
            f"Offline: {_percent(numbers['token_accuracy'])} of tokens right over "
            f"{numbers['steps']:,} recorded steps."
        )
    return lines


def _interval_chart(results: dict[str, Any]) -> Markup:
    rows = _table(results)
    if not rows:
        return Markup("")
    if len(rows) > _MOST_ROWS:
        rows = [row for row in rows if row.is_total]
    present = [c for c in CONDITIONS if c in rows[0].of]
    drawn = []
    for row in rows:
        marks = [
            charts.Interval(CONDITIONS.index(c), row.of[c]["success_rate"], *row.of[c]["interval"])
            for c in present
        ]
        drawn.append((_words(f"{row.split} · {row.skill}"), marks))
    # Shapes belong to conditions, so absent ones leave no hole in the legend's order.
    return Markup(charts.interval_chart(drawn, {CONDITIONS.index(c): TITLES[c] for c in present}))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}%"


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _words(name: str) -> str:
    return name.replace("_", " ")

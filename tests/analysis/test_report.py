"""What every analysis writes."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rt1_jax import figures
from rt1_jax.analysis.report import write_analysis


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def write(directory: Path, **change: Any) -> dict[str, Any]:
    figure = figures.new_figure(2, 2)
    figure.add_subplot().imshow(np.eye(3))
    figures.save_figure(figure, directory / "eye")
    given: dict[str, Any] = {
        "title": "RT-1 <b>bold</b>",
        "summary": ["It follows a power law."],
        "figures": [("eye", "A matrix & its <caption>.")],
        "tables": [
            ("Rates", ["policy", "rate", "n"], [["RT-1", 0.12345, 1200], ["none", None, 0]])
        ],
        "results": {
            "rate": np.float32(0.5),
            "matrix": np.asarray([[1.0, np.nan]]),
            "path": Path("a/b"),
            "text": "plain",
            3: (1, np.int64(2), True),
        },
        "notes": ["Too few episodes for a fit."],
    }
    return write_analysis(directory, **(given | change))


def test_results(tmp_path: Path) -> None:
    content = write(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == content
    assert (content["format"], content["version"]) == ("rt1_jax.analysis", 1)
    assert content["results"] == {
        "rate": 0.5, "matrix": [[1.0, None]], "path": "a/b", "text": "plain", "3": [1, 2, True]
    }  # fmt: skip
    assert content["machine"]["versions"]["jax"]
    assert content["notes"] == ["Too few episodes for a fit."]


def test_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    assert reader.addresses
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in reader.addresses)
    assert not re.search(r"@import|<script|https?://|<!DOCTYPE svg", page)
    text = " ".join(reader.text.split())
    assert "RT-1 <b>bold</b>" in text
    assert "A matrix & its <caption>." in text
    assert "policyraten RT-10.1231,200 none–0" in text
    assert "Too few episodes for a fit." in text


def test_nothing_but_a_summary(tmp_path: Path) -> None:
    content = write_analysis(tmp_path / "new", "Empty", [], [], [], {})
    assert content["results"] == {}
    assert "Figures" not in (tmp_path / "new" / "report.html").read_text()


def test_a_figure_that_was_not_saved(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.svg: save it with save_figure"):
        write(tmp_path, figures=[("missing", "")])
    assert not (tmp_path / "results.json").exists()


def test_a_row_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="table 'Rates'"):
        write(tmp_path, tables=[("Rates", ["a", "b"], [["x"]])])

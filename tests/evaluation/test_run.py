"""A whole evaluation with scripted parts: what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripted_world import ScriptedFactory, WalkingPolicy

from rt1_jax.actions import TABLETOP
from rt1_jax.evaluation.environment import choose_tasks
from rt1_jax.evaluation.episodes import EvaluationError
from rt1_jax.evaluation.metrics import DEFINITIONS, wilson_interval
from rt1_jax.evaluation.report import training_charts
from rt1_jax.evaluation.run import ClosedLoop, evaluate, training_rows
from rt1_jax.evaluation.table import format_table


class DescribedPolicy(WalkingPolicy):
    action_spec = TABLETOP
    variables = {"params": {"kernel": np.zeros((3, 4)), "bias": np.zeros(4)}}
    description = SimpleNamespace(
        architecture="rt1", step=70, source={"run": "x"}, frame_rate=3.0, image_size=(8, 10)
    )


class PageReader(HTMLParser):
    """Checks that tags nest, and collects texts and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("out") / "deep"
    rows: list[dict[str, Any]] = [
        {"step": i, "split": "train", "loss": 2.0 / i, "token_accuracy": 0.5} for i in range(1, 9)
    ]
    results = evaluate(
        DescribedPolicy(),
        "runs/<b>walk</b>",
        output,
        closed_loop=ClosedLoop(
            environment="line",
            splits=("seen", "backgrounds"),
            skills=("walk", "run_far"),
            episodes=10,
            seed=5,
            controls=("expert", "wrong_instruction"),
            films=1,
        ),
        training=rows,
        factory=ScriptedFactory(),
        progress=False,
    )
    return output, results


def test_results_file(evaluated: tuple[Path, dict[str, Any]]) -> None:
    output, results = evaluated
    assert json.loads((output / "results.json").read_text()) == results
    assert (results["format"], results["version"]) == ("rt1_jax.results", 1)
    assert results["checkpoint"] == {
        "name": "runs/<b>walk</b>",
        "step": 70,
        "architecture": "rt1",
        "parameters": 16,
        "source": {"run": "x"},
    }
    assert results["offline"] is None
    assert results["definitions"] == DEFINITIONS
    loop = results["closed_loop"]
    assert loop["tasks"] == {s: ["walk", "run_far"] for s in ("seen", "backgrounds")}
    assert len(loop["episodes"]) == 2 * 3 * 10
    assert [e["index"] for e in loop["episodes"]] == list(range(60))
    summary = loop["summary"]
    assert list(summary) == ["policy", "wrong_instruction", "expert"]
    for split in ("seen", "backgrounds"):
        total = summary["policy"][split]["all"]
        assert (total["successes"], total["episodes"]) == (10, 10)
        assert total["interval"] == list(wilson_interval(10, 10))
        assert total["terminate_accuracy"] == 1.0
        assert summary["policy"][split]["walk"]["episodes"] == 5
        assert summary["wrong_instruction"][split]["all"]["successes"] == 0
        assert summary["expert"][split]["run_far"]["successes"] == 5


def test_report_is_whole_and_needs_nothing_else(evaluated: tuple[Path, dict[str, Any]]) -> None:
    page = (evaluated[0] / "report.html").read_text()
    reader = PageReader()
    reader.feed(page)
    assert not reader.open
    assert reader.addresses
    assert all(address.startswith("data:image/webp;base64,") for address in reader.addresses)
    assert not re.search(r"url\(|@import|<script|https?://", page)
    # Per split: a success of the policy, a failure under a wrong instruction; two pictures each.
    assert len(reader.addresses) == 2 * 2 * 2
    text = " ".join(" ".join(reader.text).split())
    assert "runs/<b>walk</b>" in text
    assert "seen: 10 of 10 episodes succeed (100%; 95% interval 72% to 100%); 0% when told" in text
    assert "The policy was told: go to" in text
    assert page.count("<polyline") == 2
    for definition in DEFINITIONS.values():
        assert definition.split(";")[0] in text


def test_table_for_the_terminal(evaluated: tuple[Path, dict[str, Any]]) -> None:
    lines = format_table(evaluated[1]).splitlines()
    assert re.split(r"  +", lines[0]) == [
        "split", "skill", "policy", "wrong instruction", "expert", "steps", "terminate",
    ]  # fmt: skip
    assert re.match(r"seen +all +10/10 100% \[72%, 100%\] +0/10 0% \[0%, 28%\]", lines[2])
    assert len(lines) == 2 + 2 * 3


def test_training_curves_of_what_was_logged() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 1, "split": "train", "loss": 1.0, "token_accuracy": 0.1},
        {"step": 2, "split": "validation", "loss": 1.1, "error/world_vector/x": 0.01},
        {"step": 3, "split": "validation", "loss": 1.0, "error/world_vector/x": 0.02},
    ]
    loss, accuracy, error = training_charts(rows)
    assert loss.count("<polyline") == 2
    assert accuracy.count("<polyline") == 1
    assert "Translation error, validation (m)" in error
    assert training_charts([]) == []


def test_training_rows_are_found_from_run_and_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "100").mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 2.0}\n{"step": 2')
    expected = [{"step": 1, "split": "train", "loss": 2.0}]
    assert training_rows(str(run)) == expected
    assert training_rows(str(run / "checkpoints" / "100")) == expected
    assert training_rows(str(tmp_path / "elsewhere")) == []


def test_tasks_of_the_tabletop() -> None:
    tasks = choose_tasks("tabletop", ["all"], ["all"])
    assert "open_drawer" in tasks["seen"]
    assert "open_drawer" not in tasks["unseen_objects"]
    assert choose_tasks("tabletop", ["seen", "seen"], ["pick"]) == {"seen": ("pick",)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kitchen", ["seen"], ["pick"]), "unknown environment 'kitchen'.*tabletop"),
        (("tabletop", ["unseen"], ["pick"]), "unknown split 'unseen'.*seen, unseen_tasks"),
        (("tabletop", ["seen"], ["juggle"]), "unknown skill 'juggle'.*pick"),
        (("tabletop", ["unseen_objects"], ["open_drawer"]), "'unseen_objects' tests none of"),
    ],
)
def test_unknown_tasks(arguments: tuple[str, list[str], list[str]], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        choose_tasks(*arguments)

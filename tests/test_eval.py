"""`eval.py` as a user runs it: bad requests end with one line and exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rt1_jax.evaluation import command

ROOT = Path(__file__).resolve().parent.parent
REQUEST: dict[str, Any] = {
    "checkpoint": "no/such/run",
    "environment": None,
    "splits": ["seen"],
    "skills": [],
    "episodes": None,
    "seed": None,
    "controls": ["expert"],
    "processes": 1,
    "films": 0,
    "dataset": None,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": ["seen", "unseen"]}, "unknown split 'unseen'"),
        ({"skills": ["juggle"]}, "unknown skill 'juggle'"),
        ({"environment": "kitchen"}, "unknown environment 'kitchen'"),
        ({"controls": ["oracle"]}, "unknown control 'oracle'"),
        ({"episodes": 0}, "nothing to evaluate"),
        ({"held_out": 5}, "give --dataset, too"),
        ({}, "no/such/run"),
    ],
)
def test_bad_requests(
    change: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command.main(**(REQUEST | {"output": str(tmp_path / "out")} | change))
    assert code == command.BAD_REQUEST
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("eval.py: ")
    assert message in line
    assert not (tmp_path / "out").exists()


def test_exit_code_reaches_the_shell() -> None:
    done = run_eval("--checkpoint=x", "--split=unseen")
    assert done.returncode == 2
    assert done.stderr.startswith("eval.py: unknown split 'unseen': expected some of seen, ")
    assert len(done.stderr.splitlines()) == 1


def test_checkpoint_is_required() -> None:
    done = run_eval()
    assert done.returncode != 0
    assert "--checkpoint" in done.stderr


def run_eval(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "eval.py", *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )

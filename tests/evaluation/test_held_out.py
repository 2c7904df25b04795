"""Which recorded episodes are compared with, and what is said of their part in the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rt1_jax.evaluation.episodes import EvaluationError
from rt1_jax.evaluation.held_out import Chosen, choose, describe_training, read_run_config

SOURCE = {"generator": "g", "image_size": [64, 64]}
TRAINED = {"data": SOURCE, "episodes": 90}
RUN: dict[str, Any] = {"data": {"validation_episodes": 10, "episodes": 0, "tasks": 1.0}}


@pytest.mark.parametrize(
    ("episodes", "held_out", "first", "last"),
    [(None, None, 0, 99), (5, None, 0, 4), (None, 10, 90, 99), (4, 10, 90, 93), (500, 10, 90, 99)],
)
def test_chosen_episodes(episodes: int | None, held_out: int | None, first: int, last: int) -> None:
    chosen = choose(100, episodes, held_out)
    assert (chosen.first, chosen.last) == (first, last)


@pytest.mark.parametrize("held_out", [0, -1, 101])
def test_more_or_fewer_than_there_are(held_out: int) -> None:
    with pytest.raises(EvaluationError, match=f"--held_out={held_out}: .*expected 1 to 100"):
        choose(100, None, held_out)
    with pytest.raises(EvaluationError, match="--episodes must be at least 1"):
        choose(100, 0, None)


@pytest.mark.parametrize(
    ("chosen", "trained_on", "note"),
    [
        (Chosen(0, 100, 100), 90, "Episodes 0 to 99: the policy was trained on those up to 89. "),
        (Chosen(0, 20, 100), 20, "trained on them. --held_out=10 compares"),
        (Chosen(90, 10, 100), 0, "Episodes 90 to 99: held out from the policy's training."),
        (Chosen(80, 20, 100), 10, "trained on those up to 89. --held_out=10"),
    ],
)
def test_what_a_run_has_seen(chosen: Chosen, trained_on: int, note: str) -> None:
    found = describe_training(chosen, SOURCE, TRAINED, RUN)
    assert found is not None
    assert found["trained_on"] == trained_on
    assert note in found["note"]


def test_runs_of_another_kind() -> None:
    whole = Chosen(0, 100, 100)

    def note(trained: dict[str, Any], run: dict[str, Any]) -> str:
        found = describe_training(whole, SOURCE, trained, run)
        return "" if found is None else found["note"]

    mixture = {"data": [{"weight": 2.0, **SOURCE}, {"weight": 1.0}], "episodes": 500}
    assert "up to 89" in note(mixture, RUN)
    few = {"data": {"validation_episodes": 10, "episodes": 30, "tasks": 1.0}}
    assert "a part of those up to 89" in note({**TRAINED, "episodes": 30}, few)
    all_of_it = {"data": {"validation_episodes": 0}}
    assert note({**TRAINED, "episodes": 100}, all_of_it).endswith("None was held out.")
    assert "where its run's directory is" in note(TRAINED, {})
    # Nothing is said where it is other data, or data of the same make but another size.
    assert note({"data": {"generator": "other"}, "episodes": 90}, RUN) == ""
    assert note({**TRAINED, "episodes": 400}, RUN) == ""
    assert note({}, RUN) == ""
    assert describe_training(whole, {}, {"data": {}}, RUN) is None


def test_the_config_of_a_run_and_of_no_run(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "100"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text(json.dumps({"format": "rt1_jax", "model": {}}))
    assert read_run_config(checkpoint) == {}
    (tmp_path / "config.json").write_text(json.dumps(RUN))
    assert read_run_config(checkpoint) == read_run_config(tmp_path) == RUN
    assert read_run_config("tabletop-small") == {}

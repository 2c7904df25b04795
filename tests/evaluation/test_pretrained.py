"""The policy that ships with the package: its size, its card, and that it drives the robot."""

import json
import re

from rt1_jax.checkpoints import location
from rt1_jax.evaluation import command, ship

NAME = "tabletop-small"


def test_its_card_states_what_was_asked_of_it():
    root = location.PRETRAINED / NAME
    assert NAME in location.pretrained_names()
    assert sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) <= ship.LARGEST_BYTES
    card = (root / "README.md").read_text()
    policy, misled, expert = re.search(
        r"^seen +all +(\d+)/200 .*? (\d+)/200 .*? (\d+)/200 ", card, re.MULTILINE
    ).groups()
    assert int(policy) >= 180
    assert int(misled) < int(policy) / 2
    assert int(expert) >= 190
    for split in ("unseen_tasks", "unseen_objects", "distractors_hard", "backgrounds"):
        assert re.search(rf"^{split} +all +\d+/200 ", card, re.MULTILINE), split


def test_it_drives_the_robot(tmp_path):
    status = command.main(
        checkpoint=NAME,
        environment="tabletop",
        splits=["seen"],
        skills=[],
        episodes=16,
        seed=None,
        controls=["wrong_instruction"],
        processes=2,
        films=1,
        dataset=None,
        output=str(tmp_path),
    )
    assert status == 0
    summary = json.loads((tmp_path / "results.json").read_text())["closed_loop"]["summary"]
    # Of the first 16 of the card's episodes; float32 may round otherwise on another machine.
    assert summary["policy"]["seen"]["all"]["successes"] >= 12
    assert summary["wrong_instruction"]["seen"]["all"]["successes"] <= 4
    assert "Translation error" in (tmp_path / "report.html").read_text()

"""Shipping a policy: what is written, that it loads by name, and what is refused."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.checkpoints import location, native
from rt1_jax.evaluation import ship
from rt1_jax.evaluation.episodes import EpisodeRequest, EpisodeResult
from rt1_jax.evaluation.results import build_results
from rt1_jax.models.rt1 import RT1
from rt1_jax.policies import load

SOURCE = {
    "run": "tabletop",
    "seed": 3,
    "training_steps": 70,
    "batch_size": 32,
    "data": {
        "generator": "rt1_jax.data.generate",
        "kept": 8000,
        "steps": 132000,
        "skills": ["pick", "move_near"],
        "split": "seen",
        "seed": 1,
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's directory with one checkpoint, its metrics and results of its evaluation."""
    root = tmp_path_factory.mktemp("run")
    model = RT1(small.small_model(embedding_size=6))
    images, embeddings = np.zeros((1, 3, 16, 16, 3), np.uint8), np.zeros((1, 6), np.float32)
    description = native.PolicyDescription(
        architecture="rt1",
        model=small.small_model(embedding_size=6).to_json(),
        action_spec=TABLETOP,
        encoder=small.HashEncoder().identity,
        embedding_statistics=small.embedding_statistics(components=6),
        image_size=(16, 20),
        frame_rate=3.0,
        step=70,
        source=SOURCE,
    )
    variables = model.init(jax.random.key(0), images, embeddings)
    native.save_checkpoint(root / "checkpoints" / "70", description, variables, training=variables)
    rows = [{"step": 70, "split": split, "loss": 1.5} for split in ("train", "validation")]
    (root / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    episodes = [
        EpisodeResult(EpisodeRequest(i, "policy", "seen", "pick", i), "a", "a", i < 3, 9, 8, True)
        for i in range(4)
    ]
    results = build_results(
        checkpoint={"name": "x", "step": 70, "parameters": 12345, "source": SOURCE},
        seconds=1.0,
        closed_loop={"environment": "tabletop", "episodes_per_split": 4, "seed": 10**9},
        episodes=episodes,
    )
    (root / "results.json").write_text(json.dumps(results))
    return root


def changed(run, tmp_path, change):
    results = json.loads((run / "results.json").read_text())
    change(results)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(results))
    return path


def test_a_shipped_policy_loads_by_its_name(run, tmp_path, monkeypatch):
    path = ship.ship(run, run / "results.json", "small-one", tmp_path, command="make small-one")
    assert path == tmp_path / "small-one"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small-one"]
    assert not (path / "training").exists()
    maker = str(tmp_path).encode()
    assert not [f for f in path.rglob("*") if f.is_file() and maker in f.read_bytes()]
    monkeypatch.setattr(location, "PRETRAINED", tmp_path)
    assert location.pretrained_names() == ["small-one"]
    policy, original = load.load_policy("small-one"), load.load_policy(run)
    jax.tree.map(np.testing.assert_array_equal, policy.variables, original.variables)
    assert policy.description.to_json() == original.description.to_json()
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"step": 70, "split": "validation", "loss": 1.5}]


def test_the_card_says_what_was_measured(run, tmp_path):
    path = ship.ship(run, run / "results.json", "small-one", tmp_path, command="make small-one")
    card = (path / "README.md").read_text()
    for text in ("12,345 parameters", "16x20 pixels", "8,000 demonstrations", "pick, move_near"):
        assert text in card
    for text in ("70 steps of 32 windows", "seed 3", "`make small-one`", "3/4 75%"):
        assert text in card


def test_a_new_one_takes_the_old_ones_place(run, tmp_path):
    first = ship.ship(run, run / "results.json", "small-one", tmp_path)
    (first / "README.md").write_text("old")
    ship.ship(run, run / "results.json", "small-one", tmp_path)
    assert (first / "README.md").read_text().startswith("# small-one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["checkpoint"].update(step=60), "step 60 of 'tabletop', the checkpoint is st"),
        (lambda r: r["checkpoint"]["source"].update(seed=4), "trained differently"),
        (lambda r: r.update(closed_loop=None), "no rollouts"),
        (lambda r: r.pop("checkpoint"), r"expected the results\.json"),
    ],
)
def test_results_that_do_not_fit(run, tmp_path, change, message):
    with pytest.raises(ship.ShippingError, match=message):
        ship.ship(run, changed(run, tmp_path, change), "small-one", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_too_large_is_not_shipped_and_keeps_the_old_one(run, tmp_path, monkeypatch):
    ship.ship(run, run / "results.json", "small-one", tmp_path)
    monkeypatch.setattr(ship, "LARGEST_BYTES", 1000)
    with pytest.raises(ship.ShippingError, match=r"at most 1,000 ship"):
        ship.ship(run, run / "results.json", "small-one", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["small-one"]


def test_the_command(run, tmp_path, capsys):
    results = str(run / "results.json")
    common = ["--results", results, "--output", str(tmp_path)]
    assert ship.main(["--checkpoint", str(run), "--name", "Bad Name", *common]) == 1
    assert "lower-case letters" in capsys.readouterr().err
    assert ship.main(["--checkpoint", str(tmp_path), "--name", "small-one", *common]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert ship.main(["--checkpoint", str(run), "--name", "small-one", *common]) == 0
    assert f"wrote {tmp_path / 'small-one'}" in capsys.readouterr().out

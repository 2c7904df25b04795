"""Evaluation with the project's own model, dataset, checkpoint and environment, all small."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import log_softmax
from small import HashEncoder, make_dataset, small_model

from rt1_jax.actions import RT1 as RT1_ACTIONS
from rt1_jax.actions import TABLETOP
from rt1_jax.checkpoints.native import PolicyDescription, save_checkpoint
from rt1_jax.data.store import StepStore
from rt1_jax.evaluation import command
from rt1_jax.evaluation.episodes import EXPERT
from rt1_jax.evaluation.offline import embeddings_for, evaluate_offline
from rt1_jax.evaluation.run import ClosedLoop, evaluate
from rt1_jax.models.rt1 import RT1
from rt1_jax.policies.streaming import Policy


@pytest.fixture(scope="module")
def policy() -> Policy:
    config = small_model()
    model = RT1(config)
    images = np.zeros((1, config.frames, 16, 20, 3), np.uint8)
    # Compiling the init would take longer than all that is tested here.
    shapes = jax.eval_shape(model.init, jax.random.key(0), images, np.zeros((1, 512), np.float32))
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda s: rng.uniform(0, 0.5, s.shape).astype(s.dtype), shapes)
    description = PolicyDescription(
        architecture="rt1",
        model=config.to_json(),
        action_spec=TABLETOP,
        encoder=HashEncoder().identity,
        embedding_statistics=None,
        image_size=(16, 20),
        frame_rate=3.0,
        step=7,
        source={"data": {"skills": ["pick"]}},
    )
    made = Policy(model, variables, description)
    made._encoder = HashEncoder()
    return made


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def checkpoint(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "7"
    save_checkpoint(path, policy.description, policy.variables)
    return path.parent.parent


def test_offline_equals_whole_windows(policy: Policy, dataset: Path) -> None:
    store = StepStore.open(dataset)
    embeddings, origin = embeddings_for(policy, store)
    numbers = evaluate_offline(policy, store, embeddings, slots=2)
    assert (origin, numbers["steps"], numbers["episodes"]) == ("stored", 27, 6)
    frames, right, nll = policy.config.frames, [], []
    for i in range(len(store)):
        episode = store.read(i)
        tokens = TABLETOP.tokenize(episode.actions)
        for step in range(len(episode)):
            start = max(0, step - frames + 1)
            window = np.zeros((1, frames, *episode.images.shape[1:]), np.uint8)
            window[0, : step - start + 1] = episode.images[start : step + 1]
            logits = np.asarray(policy.logits(window, embeddings[i : i + 1]))[0, step - start]
            right.append(logits.argmax(-1) == tokens[step])
            log_p = log_softmax(logits, -1)
            nll.append(-np.take_along_axis(log_p, tokens[step][:, None], -1))
    assert numbers["token_accuracy"] == pytest.approx(np.mean(right), abs=1e-9)
    assert numbers["cross_entropy"] == pytest.approx(np.mean(nll), abs=1e-4)


def test_closed_loop_in_the_tabletop(policy: Policy, tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        asked = ClosedLoop(
            skills=("pick",), episodes=2, controls=(EXPERT,), processes=processes, films=1
        )
        results = evaluate(
            policy, "small", tmp_path / str(processes), closed_loop=asked, progress=False
        )
        found.append(results["closed_loop"])
    assert found[0] == found[1]
    expert = found[0]["summary"]["expert"]["seen"]["all"]
    assert (expert["successes"], expert["episodes"]) == (2, 2)
    assert expert["terminate_accuracy"] == 1.0
    assert found[0]["summary"]["policy"]["seen"]["all"]["successes"] == 0  # untrained
    assert "image/webp" in (tmp_path / "1" / "report.html").read_text()


def test_policy_of_another_action_spec_is_refused_only_if_fields_differ(policy: Policy) -> None:
    from rt1_jax.evaluation.offline import check_same_fields

    check_same_fields(RT1_ACTIONS, policy.action_spec)


def run(output: Path, **change: Any) -> int:
    request: dict[str, Any] = {
        "environment": None,
        "splits": ["seen"],
        "skills": [],
        "episodes": None,
        "seed": None,
        "controls": [],
        "processes": 1,
        "films": 0,
        "dataset": None,
        "output": str(output),
    }
    return command.main(**(request | change))


def test_command_against_recorded_actions(
    checkpoint: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, checkpoint=str(checkpoint), dataset=str(dataset), episodes=2) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["closed_loop"] is None
    assert results["offline"]["episodes"] == 2
    assert results["checkpoint"]["step"] == 7
    assert "world_vector/x" in printed
    assert str(tmp_path / "report.html") in printed
    assert "Against recorded actions" in (tmp_path / "report.html").read_text()


def test_command_against_held_out_actions(
    policy: Policy, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = json.loads((dataset / "dataset.json").read_text())["source"]
    trained = dataclasses.replace(policy.description, source={"data": source, "episodes": 4})
    run_directory = tmp_path / "run"
    save_checkpoint(run_directory / "checkpoints" / "7", trained, policy.variables)
    config = {"data": {"directory": str(dataset), "validation_episodes": 2}}
    (run_directory / "config.json").write_text(json.dumps(config))
    asked = {"checkpoint": str(run_directory), "dataset": str(dataset)}
    assert run(tmp_path / "all", **asked) == 0
    assert "trained on those up to 3. --held_out=2 compares" in capsys.readouterr().out
    assert run(tmp_path / "last", **asked, held_out=2) == 0
    assert "Episodes 4 to 5: held out from the policy's training." in capsys.readouterr().out
    numbers = json.loads((tmp_path / "last" / "results.json").read_text())["offline"]
    assert (numbers["first_episode"], numbers["episodes"]) == (4, 2)
    assert numbers["steps"] == sum(StepStore.open(dataset).lengths[-2:])
    assert numbers["training"]["trained_on"] == 0
    assert "Episodes 4 to 5: held out" in (tmp_path / "last" / "report.html").read_text()
    assert run(tmp_path / "none", **asked, held_out=7) == command.BAD_REQUEST
    assert "--held_out=7: the dataset has 6 episodes" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["dataset.json", "shard-00001.array_record"])
def test_incomplete_dataset(
    missing: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_dataset(tmp_path / "data", lengths=(2, 2))
    (data / missing).unlink()
    code = run(tmp_path / "out", checkpoint=str(checkpoint), dataset=str(data))
    assert code == command.BAD_REQUEST
    (line,) = capsys.readouterr().err.splitlines()
    assert str(data) in line
    assert not (tmp_path / "out").exists()

"""Predicted over recorded actions: numbers by hand, each way of decoding, files, the command."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import softmax
from small import HashEncoder, make_dataset, make_episode, policy_description, small_model

import rt1_jax
from rt1_jax.action_values import decode_outputs, output_count
from rt1_jax.actions import TABLETOP, ActionField, ActionSpec
from rt1_jax.data.store import StepStore
from rt1_jax.evaluation import overlay, overlay_charts
from rt1_jax.evaluation.offline import evaluate_offline
from rt1_jax.evaluation.playback import Playback, play, to_json
from rt1_jax.models.rt1 import RT1
from rt1_jax.policies.streaming import Policy
from rt1_jax.training.step import given_actions


class Fixed:
    """A policy that gives fixed outputs, one row a step: logits or numbers."""

    def __init__(self, outputs: np.ndarray, decoding: str = "parallel") -> None:
        self.outputs = outputs
        self.action_spec = TABLETOP
        self.config = SimpleNamespace(decoding=decoding)
        encoder = HashEncoder()
        self.description = SimpleNamespace(encoder=encoder.identity, step=5)
        self.embed = encoder.embed

    def initial_state(self, batch_size: int) -> np.ndarray:
        return np.zeros(batch_size, np.int64)

    def reset(self, state: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, 0, state)

    def step_with_logits(self, state: np.ndarray, images: Any, embeddings: Any) -> Any:
        raw = self.outputs[state]
        if raw.ndim == 3:
            return state + 1, TABLETOP.detokenize(raw.argmax(-1)), raw
        return state + 1, decode_outputs(raw, TABLETOP), raw


@pytest.fixture(scope="module")
def discrete() -> Fixed:
    shape = (9, TABLETOP.action_tokens, TABLETOP.bins)
    return Fixed(np.random.default_rng(0).normal(0, 3, shape).astype(np.float32))


@pytest.fixture(scope="module")
def continuous() -> Fixed:
    shape = (9, output_count(TABLETOP))
    outputs = np.random.default_rng(0).normal(0, 0.7, shape).astype(np.float32)
    return Fixed(outputs, "continuous")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "data")


def test_a_distribution_by_hand(discrete: Fixed) -> None:
    episode = make_episode(3, length=6)
    played = play(discrete, episode, np.zeros(512, np.float32))
    p = softmax(discrete.outputs[:6].astype(np.float64), axis=-1)
    tokens = TABLETOP.tokenize(episode.actions)
    np.testing.assert_array_equal(played.recorded_tokens, tokens)
    np.testing.assert_array_equal(played.predicted_tokens, p.argmax(-1))
    np.testing.assert_array_equal(played.accuracy(), (p.argmax(-1) == tokens).mean(0))
    assert played.recorded_probability is not None
    assert played.recorded_probability[4, 2] == pytest.approx(p[4, 2, tokens[4, 2]])
    # world_vector/y is token 2: its bins are evenly spaced from -0.05 to 0.05.
    values = np.linspace(-0.05, 0.05, TABLETOP.bins)
    low, high = played.band["world_vector"][3, 1]
    assert p[3, 2, values < low - 1e-6].sum() < 0.05 <= p[3, 2, values < low + 1e-6].sum()
    assert p[3, 2, values < high - 1e-6].sum() < 0.95 <= p[3, 2, values < high + 1e-6].sum()
    # Tokens beyond the three entries mean the first.
    first = p[:, 0, 0] + p[:, 0, 3:].sum(-1)
    np.testing.assert_allclose(played.first_probability["terminate_episode"], first)
    error = np.abs(played.predicted["rotation_delta"] - episode.actions["rotation_delta"]).mean(0)
    np.testing.assert_allclose(played.error("rotation_delta"), error, rtol=1e-5)


def test_it_is_what_offline_evaluation_says(discrete: Fixed, dataset: Path) -> None:
    store = StepStore.open(dataset).select(np.array([2]))
    numbers = evaluate_offline(discrete, store, np.zeros((1, 512), np.float32))
    found = to_json(play(discrete, store.read(0), np.zeros(512, np.float32)), TABLETOP)
    assert found["steps"] == numbers["steps"]
    for name, token in found["tokens"].items():
        assert token["token_accuracy"] == pytest.approx(numbers["tokens"][name]["accuracy"])
        entropy = -np.log(np.maximum(token["recorded_probability"], 1e-7)).mean()
        assert entropy == pytest.approx(numbers["tokens"][name]["cross_entropy"], abs=0.5)
    for name, field in numbers["fields"].items():
        error = found["fields"][name]["mean_absolute_error"]
        assert error == pytest.approx(field["mean_absolute_error"], rel=1e-4)


def test_regressed_actions_have_no_distribution(continuous: Fixed) -> None:
    episode = make_episode(3, length=6)
    played = play(continuous, episode, np.zeros(512, np.float32))
    assert played.recorded_probability is None
    assert played.band == {}
    logits = continuous.outputs[:6, :3].astype(np.float64)
    first = played.first_probability["terminate_episode"]
    np.testing.assert_allclose(first, softmax(logits, -1)[:, 0], rtol=1e-6)
    tokens = TABLETOP.tokenize({k: np.asarray(v) for k, v in played.predicted.items()})
    np.testing.assert_array_equal(played.predicted_tokens, tokens)
    found = to_json(played, TABLETOP)
    assert found["fields"]["world_vector"]["band"] is None
    assert found["tokens"]["world_vector/x"]["recorded_probability"] is None


@pytest.mark.parametrize("decoding", ["parallel", "autoregressive", "continuous"])
def test_real_policies_play(decoding: str) -> None:
    config = small_model(embedding_size=6)
    outputs = {"outputs": 13} if decoding == "continuous" else {}
    config = dataclasses.replace(config, decoding=decoding, **outputs)
    model = RT1(config)
    images = np.zeros((1, config.frames, 16, 20, 3), np.uint8)
    actions = {f.name: np.zeros((1, config.frames, f.size), np.float32) for f in TABLETOP.fields}
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), images, np.zeros((1, 6), np.float32),
        **given_actions(model, actions, TABLETOP),
    )  # fmt: skip
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda s: rng.uniform(0, 0.5, s.shape).astype(s.dtype), shapes)
    policy = Policy(model, variables, policy_description("rt1", config))
    episode = make_episode(1, length=4)
    played = play(policy, episode, HashEncoder().embed([episode.instruction])[0])
    state = policy.initial_state(1)
    told = HashEncoder().embed([episode.instruction])
    for step in range(4):
        state, action = policy.step(state, episode.images[step : step + 1], told)
        for name, value in action.items():
            np.testing.assert_array_equal(played.predicted[name][step], value[0])
    assert (played.recorded_probability is None) == (decoding == "continuous")


def test_limits_show_the_bounds_where_that_does_not_flatten() -> None:
    bounds = np.array([-1.0, 1.0])
    whole = overlay_charts._limits(np.array([-0.5, 0.5]), bounds, still=False)
    assert whole == pytest.approx((-1.2, 1.2))
    close = overlay_charts._limits(np.array([0.0, 0.1]), bounds, still=False)
    assert close == pytest.approx((-0.01, 0.11))
    assert overlay_charts._limits(np.array([0.0, 0.01]), bounds, still=True) == whole
    beyond = overlay_charts._limits(np.array([0.0, 3.0]), bounds, still=False)
    assert beyond == pytest.approx((-1.4, 3.4))


@pytest.mark.parametrize("length", [1, 3, 40])
def test_episodes_of_any_length_are_drawn(length: int) -> None:
    rng = np.random.default_rng(0)
    episode = make_episode(0, length)
    tokens = rng.integers(0, 3, (length, TABLETOP.action_tokens))
    band = {
        f.name: np.sort(rng.uniform(-1, 1, (length, f.size, 2)), -1)
        for f in TABLETOP.fields
        if f.kind == "continuous"
    }
    first = {"terminate_episode": rng.uniform(size=length)}
    played = Playback(
        episode.actions, TABLETOP.detokenize(tokens), tokens, tokens, tokens / 3, band, first
    )
    figure = overlay_charts.draw(played, episode.images, TABLETOP, "an episode", 3.0)
    assert len(figure.axes) == 11 + 2
    assert len(figure.axes[-1].images) == min(length, 8)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0].startswith("terminate episode: probability of terminating")
    assert titles[1].startswith("world vector/x (m): error ")


def run(policy: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(rt1_jax, "load_policy", lambda path: policy, raising=False)
    return overlay.main(["--checkpoint=fixed", *arguments])


def test_the_command(
    discrete: Fixed, dataset: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    arguments = (f"--dataset={dataset}", "--episode=2,0,2", f"--output={tmp_path}")
    assert run(discrete, monkeypatch, *arguments) == 0
    told = capsys.readouterr().out
    assert told.startswith("episode 2, 6 steps, ")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["format"] == "rt1_jax.overlay"
    assert [e["episode"] for e in results["episodes"]] == [2, 0]
    assert results["embeddings"] == "stored"
    assert len(results["episodes"][0]["fields"]["world_vector"]["band"]) == 6
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2
    for name in ("episode-2.png", "episode-2.svg", "episode-0.png", "episode-0.svg"):
        assert (tmp_path / name).stat().st_size > 1000


def test_what_a_policy_does_not_give_is_said(
    continuous: Fixed, dataset: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    assert run(continuous, monkeypatch, f"--dataset={dataset}", f"--output={tmp_path}") == 0
    assert "there is no distribution over tokens" in capsys.readouterr().out
    assert "there is no distribution over tokens" in (tmp_path / "report.html").read_text()


def test_other_bounds_are_told(discrete: Fixed) -> None:
    fields = tuple(
        dataclasses.replace(f, low=(-2.0,) * f.size) if f.name == "rotation_delta" else f
        for f in TABLETOP.fields
    )
    notes = overlay._notes(discrete, dataclasses.replace(TABLETOP, fields=fields), "stored")
    assert len(notes) == 1
    assert notes[0].startswith("rotation_delta: the checkpoint's bounds are")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset={tmp}"], "has no dataset.json"),
        (["--dataset={data}", "--episode=6"], "--episode=6: .* has 6 episodes, 0 to 5"),
        (["--dataset={data}", "--episode=first"], "--episode=first: expected numbers from 0"),
    ],
)
def test_what_is_not_there_is_told_in_a_line(
    discrete: Fixed, dataset: Path, tmp_path: Path, monkeypatch: Any, capsys: Any,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    given = [a.format(tmp=tmp_path, data=dataset) for a in arguments]
    assert run(discrete, monkeypatch, *given, f"--output={tmp_path / 'out'}") == 2
    told = capsys.readouterr().err
    assert told.startswith("overlay: ")
    assert told.count("\n") == 1
    assert re.search(message, told)
    assert not (tmp_path / "out").exists()


def test_another_action_spec_is_refused(
    discrete: Fixed, dataset: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    field = ActionField("joint_velocity", 7, (-1,) * 7, (1,) * 7, "rad/s")
    other = ActionSpec("joints", (field,), 256)
    monkeypatch.setattr(discrete, "action_spec", other)
    assert run(discrete, monkeypatch, f"--dataset={dataset}", f"--output={tmp_path}") == 2
    assert "the checkpoint acts by action spec 'joints'" in capsys.readouterr().err

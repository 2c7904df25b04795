"""Token maps and attention of a small untrained policy, and the command around them."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import softmax
from small import HashEncoder, make_dataset, make_episode, small_model

import rt1_jax
from rt1_jax.actions import TABLETOP
from rt1_jax.analysis import token_maps
from rt1_jax.analysis.attention import Looker, Looks, NoSuchPartError
from rt1_jax.analysis.live import live_scenes
from rt1_jax.analysis.map_numbers import frame_attention, measure, summarize
from rt1_jax.analysis.scenes import (
    OTHER_OBJECT,
    OTHER_SKILL,
    OWN,
    REWORDED,
    Scene,
    Told,
    asked_instructions,
)
from rt1_jax.checkpoints.native import PolicyDescription
from rt1_jax.models.attention_mask import attention_mask
from rt1_jax.models.rt1 import RT1, RT1Config
from rt1_jax.policies.streaming import Policy

FIGURES = ("tokens", "over_time", "instructions", "shapes", "movement", "window", "actions")


def make_policy(config: RT1Config) -> Policy:
    model = RT1(config)
    images = np.zeros((1, config.frames, 16, 20, 3), np.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images, np.zeros((1, 512), np.float32))
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype(s.dtype), shapes)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])  # variances
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
def policy() -> Policy:
    return make_policy(small_model())


@pytest.fixture(scope="module")
def one_layer() -> Policy:
    """No TokenLearner, one layer."""
    config = small_model()
    return make_policy(
        dataclasses.replace(
            config,
            image_tokenizer=dataclasses.replace(config.image_tokenizer, token_learner=None),
            transformer=dataclasses.replace(config.transformer, layers=1),
        )
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def looks(policy: Policy) -> Looks:
    return Looker(policy, "small").look(make_episode(1).images, policy.embed(["find red"])[0])


def run(policy: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(rt1_jax, "load_policy", lambda path: policy, raising=False)
    return token_maps.main(["--checkpoint=small", *arguments])


def test_maps_and_attention_are_distributions(policy: Policy, looks: Looks) -> None:
    assert looks.maps is not None
    assert looks.attention is not None
    assert looks.rollout is not None
    assert looks.maps.shape == (5, 2, 16)
    assert looks.attention.shape == (5, 2, 11, 3, 2)  # steps, layers, action tokens, frames, tokens
    assert looks.rollout.shape == (5, 11, 3, 2)
    np.testing.assert_allclose(looks.maps.sum(-1), 1, rtol=1e-5)
    # All but the first action row are read from action slots, which look at images alone.
    np.testing.assert_allclose(looks.attention[:, :, 1:].sum((-2, -1)), 1, rtol=1e-5)
    assert (looks.rollout.sum((-2, -1)) <= 1 + 1e-5).all()
    np.testing.assert_array_equal(looks.position, [0, 1, 2, 2, 2])
    # Frames that are yet to come get nothing.
    assert not looks.attention[0, ..., 1:, :].any()
    assert looks.attention[1, ..., 1, :].any()
    assert not looks.attention[1, ..., 2, :].any()


def test_maps_are_the_models(policy: Policy, looks: Looks) -> None:
    images, embedding = make_episode(1).images, policy.embed(["find red"])
    apply = jax.jit(functools.partial(policy.model.apply, method="token_attention"))
    expected = apply(policy.variables, images, embedding)
    np.testing.assert_allclose(looks.maps, expected, atol=1e-6)


def test_reading_attention_changes_nothing(policy: Policy) -> None:
    images = make_episode(1, length=3).images[None]
    inputs = (policy.variables, images, policy.embed(["find red"]))
    plain = jax.jit(policy.model.apply)(*inputs)
    logits, state = jax.jit(functools.partial(policy.model.apply, mutable=["intermediates"]))(
        *inputs
    )
    np.testing.assert_allclose(plain, logits, rtol=1e-5, atol=1e-4)
    assert set(state) == {"intermediates"}


def test_attention_equals_the_formula(one_layer: Policy) -> None:
    images, embedding = make_episode(2).images, one_layer.embed(["find blue"])
    found = Looker(one_layer, "small").look(images, embedding[0])
    config, params = one_layer.config, one_layer.variables["params"]["transformer"]
    tokens = np.asarray(
        one_layer.model.apply(one_layer.variables, images, embedding, method="encode_frames")
    )
    step, frames, n = 4, config.frames, tokens.shape[1]  # the window holds frames 2, 3, 4
    window = np.pad(tokens[2:5], ((0, 0), (0, config.action_tokens), (0, 0))).reshape(-1, 16)
    x = window @ params["token_embedding"]["kernel"] + params["token_embedding"]["bias"]
    x = x + params["position_embedding"]["kernel"] + params["position_embedding"]["bias"]
    layer = params["layer_0"]
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    y = y * layer["layer_norm_1"]["scale"] + layer["layer_norm_1"]["bias"]
    query, key = (
        np.einsum("sd,dhk->hsk", y, layer["attention"][name]["kernel"])
        + np.asarray(layer["attention"][name]["bias"])[:, None]
        for name in ("query", "key")
    )
    mask = attention_mask(frames, n, config.action_tokens, True)
    scores = np.where(mask, query @ key.swapaxes(1, 2) / np.sqrt(8), -1e9)
    weights = softmax(scores, axis=-1).mean(0)  # [s, s]
    rows = weights[2 * config.step_tokens + n - 1 :][: config.action_tokens]
    expected = rows.reshape(config.action_tokens, frames, -1)[..., :n]
    assert found.attention is not None
    np.testing.assert_allclose(found.attention[step, 0], expected, atol=2e-5)


def test_attention_on_the_frame_conserves_weight(looks: Looks) -> None:
    weights = frame_attention(looks)
    assert weights is not None
    assert weights.shape == (5, 2, 11, 16)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


def test_numbers_of_made_up_looks() -> None:
    # Two frames of 8 x 8 pixels over a grid of 2 x 2; a map that sits on what it is told.
    images = np.zeros((2, 8, 8, 3), np.uint8)
    places = {"red": np.full((2, 2), 2.0), "blue": np.full((2, 2), 6.0)}
    told = (Told("get red", OWN, "red"), Told("get blue", OTHER_OBJECT, "blue"))
    on_red, on_blue = np.asarray([1.0, 0, 0, 0]), np.asarray([0, 0, 0, 1.0])

    def look(where: np.ndarray) -> Looks:
        return Looks(np.tile(where, (2, 1, 1)), None, None, np.zeros(2, int))

    found = measure(Scene("a", images, told, places), [look(on_red), look(on_blue)], (2, 2))
    assert found["another object/total_variation"] == pytest.approx([1.0])
    assert found["another object/shift"] == pytest.approx([np.hypot(4, 4)])
    assert found["next frame/total_variation"] == pytest.approx([0.0])
    area = np.pi / 16  # a disc of radius 1 in a cell of 4 x 4
    assert found["share/all frames/named"] == pytest.approx([area], abs=0.01)
    assert found["share/all frames/not named"] == pytest.approx([0.0])
    assert found["share/first frame/uniform"] == pytest.approx(area / 4, abs=0.01)
    means = summarize([found, found])
    assert means["entropy"].mean == pytest.approx([0.0])
    # An object that the sentence mentions besides is neither named nor not named.
    beside = (told[0], Told("get blue beside red", OTHER_OBJECT, "blue"))
    found = measure(Scene("a", images, beside, places), [look(on_red), look(on_red)], (2, 2))
    assert found["share/all frames/named"] == pytest.approx([area / 2], abs=0.01)
    assert found["share/all frames/not named"] == pytest.approx([0.0])


def test_command_on_a_dataset(
    policy: Policy, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = []
    for name in ("one", "two"):
        output = tmp_path / name
        arguments = (f"--dataset={dataset}", "--episode=2", "--episodes=2", f"--output={output}")
        assert run(policy, monkeypatch, *arguments) == 0
        contents.append(json.loads((output / "results.json").read_text()))
        # The second time only the numbers are compared; equal figures are test_figures' business.
        monkeypatch.setattr("rt1_jax.analysis.map_analysis._draw", lambda *_: [])
    for figure in FIGURES:
        assert (tmp_path / f"one/{figure}.png").stat().st_size > 1000
        assert (tmp_path / f"one/{figure}.svg").stat().st_size > 1000
    results, again = (content["results"] for content in contents)
    assert results["means"] == again["means"]
    assert [scene["name"] for scene in results["scenes"]] == ["episode 2", "episode 3"]
    assert results["grid"] == [4, 4]
    assert results["problems"] == []
    assert results["means"]["entropy"]["samples"] == 2
    assert "another instruction/shift" in results["means"]
    with np.load(tmp_path / "one/maps.npz") as arrays:
        frames = results["scenes"][0]["frames"]
        assert arrays["0/0/maps"].shape == (frames, 2, 16)
        assert arrays["0/1/maps"].shape == (frames, 2, 16)
        assert arrays["1/0/attention"].shape[1:] == (2, 11, 3, 2)
    page = (tmp_path / "one/report.html").read_text()
    assert page.count("<figure") == len(FIGURES)
    assert "4×4 grid" in page


def test_instructions_of_ones_own(
    policy: Policy, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rt1_jax.analysis.map_analysis._draw", lambda *_: [])
    arguments = ("--instructions=sit; roll over ", f"--dataset={dataset}", "--episodes=1")
    assert run(policy, monkeypatch, *arguments, f"--output={tmp_path}") == 0
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    told = [one["text"] for one in results["scenes"][0]["told"]]
    assert told[1:] == ["sit", "roll over"]
    assert asked_instructions(None) is None


def test_without_token_learner_the_rest_is_drawn(
    one_layer: Policy, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (f"--dataset={dataset}", "--episodes=1", f"--output={tmp_path}")
    assert run(one_layer, monkeypatch, *arguments) == 0
    content = json.loads((tmp_path / "results.json").read_text())
    (problem,) = content["results"]["problems"]
    assert "checkpoint small has no TokenLearner" in problem
    assert "cannot be drawn" in content["summary"][0]
    assert (tmp_path / "actions.png").exists()
    assert (tmp_path / "window.svg").exists()
    assert not (tmp_path / "tokens.png").exists()


def test_neither_tokens_nor_transformer(policy: Policy) -> None:
    other = SimpleNamespace(
        config=SimpleNamespace(), model=object(),
        description=SimpleNamespace(architecture="bc_z"),
    )  # fmt: skip
    with pytest.raises(NoSuchPartError, match="checkpoint mine has no TokenLearner.*'bc_z'"):
        Looker(other, "mine")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset={data}", "--episode=6"), "--episode=6: .* has 6 episodes, 0 to 5"),
        (("--dataset={data}", "--episode=-1"), "--episode=-1"),
        (("--dataset={data}/none",), "no dataset directory .*none"),
        (("--dataset={data}", "--step=5"), "--step=5: episode 0 has 5 frames, 0 to 4"),
        (("--dataset={data}", "--instructions=a;;b"), "empty instruction"),
        (("--dataset={data}", "--instructions="), "empty instruction"),
        (("--dataset={data}", "--episodes=0"), "--episodes=0"),
        (("--dataset={data}", "--env=tabletop"), "give one of the two"),
        (("--env=kitchen",), "unknown environment 'kitchen'.*tabletop"),
        (("--skills=juggle",), "unknown skill 'juggle'"),
        (("--seed=-1",), "--seed=-1"),
    ],
)
def test_bad_requests(
    arguments: tuple[str, ...],
    message: str,
    policy: Policy,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [argument.format(data=dataset) for argument in arguments]
    output = tmp_path / "out"
    assert run(policy, monkeypatch, *filled, f"--output={output}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not output.exists()


def test_unknown_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert token_maps.main([f"--checkpoint={tmp_path / 'nothing'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "nothing") in line


def test_live_scenes(policy: Policy) -> None:
    steps: list[int] = []
    arguments: dict[str, Any] = {"split": "seen", "skills": ("pick",), "seed": 5, "episodes": 1}
    (scene,) = live_scenes(policy, "tabletop", **arguments, on_step=lambda: steps.append(1))
    assert scene.images.shape == (30, 16, 20, 3)  # an untrained policy's time runs out
    assert len(steps) == 30
    assert scene.success is False
    kinds = [told.kind for told in scene.told]
    assert kinds == [OWN, REWORDED, *[OTHER_OBJECT] * 3, OTHER_SKILL]
    assert {told.named for told in scene.told} == set(scene.places)
    for told in scene.told:
        assert told.named is not None
        assert told.named in told.text
    assert all(place.shape == (30, 2) for place in scene.places.values())

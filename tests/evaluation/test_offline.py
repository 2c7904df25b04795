from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from rt1_jax.actions import RT1, TABLETOP, ActionField, ActionSpec
from rt1_jax.data.episode import Episode
from rt1_jax.evaluation.episodes import EvaluationError
from rt1_jax.evaluation.offline import embeddings_for, evaluate_offline
from rt1_jax.language import EncoderIdentity


class Recorded:
    """Episodes whose frames carry their episode number and step."""

    def __init__(self, lengths: list[int], spec: ActionSpec = TABLETOP) -> None:
        self.action_spec = spec
        rng = np.random.default_rng(0)
        self.episodes = []
        for number, length in enumerate(lengths):
            images = np.zeros((length, 4, 4, 3), np.uint8)
            images[:, 0, 0, 0] = number
            images[:, 0, 0, 1] = np.arange(length)
            actions = {}
            for field in spec.fields:
                shape = (length, field.size)
                # Beyond the bounds now and then.
                actions[field.name] = rng.uniform(-1.2, 1.2, shape).astype(np.float32) * field.high
                if field.kind == "one_hot":
                    actions[field.name] = np.eye(field.size, dtype=np.float32)[
                        rng.integers(field.size, size=length)
                    ]
            self.episodes.append(Episode(images, actions, f"do {number}"))

    def __len__(self) -> int:
        return len(self.episodes)

    def read(self, episode: int) -> Episode:
        return self.episodes[episode]


class TablePolicy:
    """Fixed random logits for each (episode, step); checks that history and embedding fit."""

    action_spec = TABLETOP

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        size = (6, 12, TABLETOP.action_tokens, TABLETOP.bins)
        self.table = rng.normal(size=size).astype(np.float32)

    def initial_state(self, batch_size: int) -> np.ndarray:
        return np.zeros(batch_size, np.int64)

    def reset(self, state: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, 0, state)

    def step_with_logits(
        self, state: np.ndarray, images: np.ndarray, embeddings: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        number, step = images[:, 0, 0, 0], images[:, 0, 0, 1]
        live = state == step  # a slot that has run out of episodes repeats its last frame
        np.testing.assert_array_equal(embeddings[live, 0], number[live])
        assert live.any()
        logits = self.table[number, step]
        return state + 1, TABLETOP.detokenize(logits.argmax(-1)), logits


@pytest.mark.parametrize("slots", [1, 2, 16])
def test_against_numbers_by_hand(slots: int) -> None:
    lengths = [5, 12, 3, 7]
    data, policy = Recorded(lengths), TablePolicy()
    embeddings = np.arange(4, dtype=np.float32)[:, None].repeat(3, axis=1)
    ended: list[int] = []
    numbers = evaluate_offline(
        policy, data, embeddings, slots=slots, on_episode=lambda: ended.append(1)
    )

    logits = np.concatenate([policy.table[i, :n] for i, n in enumerate(lengths)])
    actions = {
        f.name: np.concatenate([e.actions[f.name] for e in data.episodes]) for f in TABLETOP.fields
    }
    tokens = TABLETOP.tokenize(actions)
    right = logits.argmax(-1) == tokens
    nll = -np.take_along_axis(log_softmax(logits, -1), tokens[..., None], -1)[..., 0]
    assert numbers["episodes"] == len(ended) == 4
    assert numbers["steps"] == 27
    assert numbers["token_accuracy"] == pytest.approx(right.mean())
    assert numbers["cross_entropy"] == pytest.approx(nll.mean(), rel=1e-6)
    assert list(numbers["tokens"]) == list(TABLETOP.token_names)
    for i, of_token in enumerate(numbers["tokens"].values()):
        assert of_token["accuracy"] == pytest.approx(right[:, i].mean())
        assert of_token["cross_entropy"] == pytest.approx(nll[:, i].mean(), rel=1e-6)
        counts = np.unique(tokens[:, i], return_counts=True)[1]
        assert of_token["majority_accuracy"] == pytest.approx(counts.max() / 27)
    predicted = TABLETOP.detokenize(logits.argmax(-1))
    assert "terminate_episode" not in numbers["fields"]
    for name, of_field in numbers["fields"].items():
        expected = np.abs(predicted[name] - actions[name]).mean(0)
        assert of_field["mean_absolute_error"] == pytest.approx(expected, rel=1e-5)
        assert of_field["unit"] == TABLETOP.field(name).unit


def test_a_perfect_policy() -> None:
    data, policy = Recorded([4, 6]), TablePolicy()
    for i, episode in enumerate(data.episodes):
        for step in range(len(episode)):
            tokens = TABLETOP.tokenize({k: v[step] for k, v in episode.actions.items()})
            policy.table[i, step, np.arange(TABLETOP.action_tokens), tokens] = 50
    numbers = evaluate_offline(policy, data, np.array([[0.0], [1.0]]), episodes=1)
    assert numbers["steps"] == 4
    assert numbers["token_accuracy"] == numbers["all_tokens_right"] == 1.0
    assert numbers["cross_entropy"] == pytest.approx(0, abs=1e-6)


def test_other_fields_are_refused() -> None:
    field = ActionField("joint_velocity", 7, (-1,) * 7, (1,) * 7, "rad/s")
    other = ActionSpec("joints", (field,), 256)
    with pytest.raises(EvaluationError, match="'tabletop'.*'joints' has joint_velocity"):
        evaluate_offline(TablePolicy(), Recorded([2], other), np.zeros((1, 1)))


def test_other_bounds_are_fine_and_an_empty_dataset_is_not() -> None:
    numbers = evaluate_offline(TablePolicy(), Recorded([2], RT1), np.zeros((1, 1)))
    assert numbers["steps"] == 2
    with pytest.raises(EvaluationError, match="no episode"):
        evaluate_offline(TablePolicy(), Recorded([]), np.zeros((0, 1)))


class Described:
    """A store's or policy's word on its encoder."""

    def __init__(self, vector: tuple[float, ...]) -> None:
        self.encoder = EncoderIdentity("tfhub:x", 2, vector)
        self.description = self
        self.embeddings = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
        self.instruction_ids = np.array([1, 0, 1])
        self.instructions = ["a", "bb"]

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.array([[len(t), 0.0] for t in texts], np.float32)


def test_stored_embeddings_are_used_only_from_the_same_encoder() -> None:
    same: Any = Described((0.6, 0.8))
    rows, origin = embeddings_for(same, Described((0.6, 0.8)))
    assert origin == "stored"
    np.testing.assert_array_equal(rows, [[3, 4], [1, 2], [3, 4]])
    rows, origin = embeddings_for(same, Described((0.8, -0.6)))
    assert origin == "embedded anew"
    np.testing.assert_array_equal(rows, [[2, 0], [1, 0], [2, 0]])

"""Open loop: what the policy would have done at every recorded step, against what was done.

The policy steps through each episode as it would on the robot, from an empty history and with the
recorded frames, so that every step counts exactly once and history is filled as in deployment.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from scipy.special import log_softmax

from rt1_jax.actions import ActionSpec
from rt1_jax.data.episode import Episode
from rt1_jax.evaluation.episodes import EvaluationError

DEFAULT_SLOTS = 16

DEFINITIONS = {
    "averaging": "Every recorded step counts once and equally, whatever its episode's length; "
    "totals over tokens weigh the tokens equally. No window is counted twice.",
    "token_accuracy": "Share of steps at which the most probable token is the recorded one.",
    "majority_accuracy": "What always giving the dataset's most common token would score.",
    "cross_entropy": "Mean of −ln p(recorded token), in nats per token; none where a policy "
    "regresses its actions. Its tokens are then those of the actions that it gives.",
    "mean_absolute_error": "|action of the most probable token − recorded action|, per element, "
    "in the field's own unit; recorded actions beyond the bounds are not clipped first.",
}


class PredictingPolicy(Protocol):
    """What offline evaluation needs of a policy; `rt1_jax.load_policy` gives one."""

    action_spec: ActionSpec

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first frame of each of `batch_size` episodes."""

    def reset(self, state: Any, mask: np.ndarray) -> Any:
        """The state with new episodes where `mask`, bool [batch], is true."""

    def step_with_logits(
        self, state: Any, images: np.ndarray, embeddings: np.ndarray
    ) -> tuple[Any, Mapping[str, Any], Any]:
        """The next state, {field: [b, size]}, logits [b, action_tokens, bins] (or [b, outputs])."""


class EpisodeSource(Protocol):
    """What is read; `rt1_jax.data.store.StepStore` is one."""

    action_spec: ActionSpec

    def __len__(self) -> int:
        """Number of episodes."""

    def read(self, episode: int) -> Episode:
        """A whole episode."""


def evaluate_offline(
    policy: PredictingPolicy,
    source: EpisodeSource,
    embeddings: np.ndarray,
    *,
    episodes: int | None = None,
    slots: int = DEFAULT_SLOTS,
    on_episode: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Token accuracy, cross-entropy and errors in physical units; see `DEFINITIONS`.

    Args:
      policy: predicts.
      source: recorded episodes.
      embeddings: float32 [episodes, dimensions], the instruction's of each episode, by the
        policy's own encoder.
      episodes: only the first so many.
      slots: episodes stepped at once.
      on_episode: called as each episode ends.

    Returns:
      JSON-able: totals, "tokens" {name: numbers}, "fields" {name: numbers}.

    Raises:
      EvaluationError: the data's action spec does not fit the policy's, or there is no episode.
    """
    check_same_fields(policy.action_spec, source.action_spec)
    count = len(source) if episodes is None else min(episodes, len(source))
    if count < 1:
        raise EvaluationError("no episode to evaluate")
    table = _Predictions()
    waiting = deque(range(count))
    slots = min(slots, count)
    state = policy.initial_state(batch_size=slots)
    running: dict[int, _Playback] = {}
    images = np.zeros((slots, *source.read(0).images.shape[1:]), np.uint8)  # [slots, h, w, 3]
    vectors = np.zeros((slots, embeddings.shape[-1]), np.float32)
    while waiting or running:
        fresh = np.zeros(slots, bool)
        for slot in range(slots):
            if slot not in running and waiting:
                number = waiting.popleft()
                running[slot] = _Playback(source.read(number))
                vectors[slot] = embeddings[number]
                fresh[slot] = True
            if slot in running:
                images[slot] = running[slot].frame
        if fresh.any():
            state = policy.reset(state, fresh)
        state, actions, logits = policy.step_with_logits(state, images, vectors)
        actions = {name: np.asarray(value) for name, value in actions.items()}
        logits = np.asarray(logits, np.float32)
        for slot in sorted(running):
            recorded = running[slot].action
            predicted = {name: value[slot] for name, value in actions.items()}
            table.add(policy.action_spec, logits[slot], predicted, recorded)
            if running[slot].advance():
                del running[slot]
                if on_episode is not None:
                    on_episode()
    return {"episodes": count, **table.summary(policy.action_spec)}


def check_same_fields(policy: ActionSpec, other: ActionSpec) -> None:
    """Raises EvaluationError unless both specs have the same fields of the same sizes."""
    mine = [(field.name, field.size, field.kind) for field in policy.fields]
    theirs = [(field.name, field.size, field.kind) for field in other.fields]
    if mine != theirs:
        raise EvaluationError(
            f"the checkpoint acts by action spec {policy.name!r} with fields "
            f"{', '.join(policy.field_names)}; {other.name!r} has {', '.join(other.field_names)}"
        )


@dataclasses.dataclass
class _Playback:
    """An episode and how far it has been played."""

    episode: Episode
    step: int = 0

    @property
    def frame(self) -> np.ndarray:
        frame: np.ndarray = self.episode.images[self.step]
        return frame

    @property
    def action(self) -> dict[str, np.ndarray]:
        return {name: value[self.step] for name, value in self.episode.actions.items()}

    def advance(self) -> bool:
        self.step += 1
        return self.step == len(self.episode)


class _Predictions:
    """One row a step; summed up at the end."""

    def __init__(self) -> None:
        self._predicted: list[np.ndarray] = []  # [action_tokens]
        self._target: list[np.ndarray] = []
        self._nll: list[np.ndarray] = []
        self._errors: list[dict[str, np.ndarray]] = []  # {field: [size]}

    def add(
        self,
        spec: ActionSpec,
        outputs: np.ndarray,  # logits [action_tokens, bins], or [outputs] where regressed
        predicted: Mapping[str, np.ndarray],
        recorded: Mapping[str, np.ndarray],
    ) -> None:
        target = spec.tokenize(recorded)
        self._target.append(target)
        if outputs.ndim == 2:
            log_p = log_softmax(outputs, axis=-1)
            self._predicted.append(outputs.argmax(-1))
            self._nll.append(-np.take_along_axis(log_p, target[:, None], axis=-1)[:, 0])
        else:
            self._predicted.append(spec.tokenize(predicted))
        self._errors.append(
            {
                field.name: np.abs(predicted[field.name] - recorded[field.name])
                for field in spec.fields
                if field.kind == "continuous"
            }
        )

    def summary(self, spec: ActionSpec) -> dict[str, Any]:
        target = np.stack(self._target)  # [steps, action_tokens]
        nll = np.stack(self._nll) if self._nll else None  # likewise
        right = np.stack(self._predicted) == target
        majority = [np.bincount(column).max() / len(column) for column in target.T]
        fields = {}
        for field in spec.fields:
            if field.kind == "continuous":
                errors = np.stack([row[field.name] for row in self._errors])  # [steps, size]
                fields[field.name] = {
                    "unit": field.unit,
                    "mean_absolute_error": errors.mean(0, dtype=np.float64).tolist(),
                }
        return {
            "steps": len(target),
            "token_accuracy": float(right.mean()),
            "majority_accuracy": float(np.mean(majority)),
            "all_tokens_right": float(right.all(-1).mean()),
            "cross_entropy": None if nll is None else float(nll.mean(dtype=np.float64)),
            "tokens": {
                name: {
                    "accuracy": float(right[:, i].mean()),
                    "majority_accuracy": float(majority[i]),
                    "cross_entropy": (
                        None if nll is None else float(nll[:, i].mean(dtype=np.float64))
                    ),
                }
                for i, name in enumerate(spec.token_names)
            },
            "fields": fields,
        }


def embeddings_for(policy: Any, store: Any) -> tuple[np.ndarray, str]:
    """Each episode's instruction embedding by the policy's encoder, and where it came from.

    The dataset's stored vectors serve where they are of the same encoder. Otherwise the
    instructions are embedded anew: vectors of two encoders are never mixed.

    Returns:
      float32 [episodes, dimensions], and "stored" or "embedded anew".

    Raises:
      ValueError: they are of another encoder, and the policy's own cannot be had here.
    """
    from rt1_jax.language import EncoderMismatchError, check_same_encoder

    # Only what is told in these episodes: a large dataset has many others.
    told, row = np.unique(store.instruction_ids, return_inverse=True)
    try:
        check_same_encoder(policy.description.encoder, store.encoder)
        vectors, origin = store.embeddings[told], "stored"
    except EncoderMismatchError:
        vectors = np.concatenate([policy.embed([store.instructions[i]]) for i in told])
        origin = "embedded anew"
    return np.asarray(vectors, np.float32)[row], origin

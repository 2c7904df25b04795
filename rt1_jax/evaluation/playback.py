"""A policy's predictions along one recorded episode, in physical units and as probabilities.

As in `rt1_jax.evaluation.offline` the policy steps through the recorded frames as it would on the
robot, from an empty history; what was recorded is not fed back to it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy.special import softmax

from rt1_jax.action_values import split_outputs
from rt1_jax.actions import ActionSpec
from rt1_jax.data.episode import Episode

BAND = (0.05, 0.95)
"""Quantiles between which nine tenths of the predicted probability lie."""

DEFINITIONS = {
    "mean_absolute_error": "Mean over the episode's steps of |predicted − recorded|, in the "
    "field's own unit; recorded values beyond the bounds are not clipped first.",
    "token_accuracy": "Share of the steps at which the predicted action falls into the recorded "
    "action's bin, by the checkpoint's bounds and bins.",
    "band": "From the 5% to the 95% quantile of the predicted distribution over the bins; null for "
    "a policy that regresses its actions, which gives one number and no distribution.",
    "recorded_probability": "Probability that the policy gives to the recorded action's token.",
    "first_probability": "Probability of a one-hot field's first entry: of terminating.",
}


@dataclasses.dataclass(frozen=True)
class Playback:
    """What was recorded and what the policy would have done, step by step.

    Attributes:
      recorded, predicted: {field: [t, size]}, in the fields' units.
      recorded_tokens, predicted_tokens: int32 [t, action_tokens].
      recorded_probability: float [t, action_tokens], of the recorded tokens; None where the policy
        gives no distribution over tokens.
      band: {field: [t, size, 2]} for continuous fields, see `BAND`; empty without a distribution.
      first_probability: {field: [t]} for one-hot fields.
    """

    recorded: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    recorded_tokens: np.ndarray
    predicted_tokens: np.ndarray
    recorded_probability: np.ndarray | None
    band: dict[str, np.ndarray]
    first_probability: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.recorded_tokens)

    def error(self, field: str) -> np.ndarray:
        """Mean absolute error of a field's numbers: [size]."""
        difference = self.predicted[field].astype(np.float64) - self.recorded[field]
        return np.abs(difference).mean(0)

    def accuracy(self) -> np.ndarray:
        """Share of the steps with the right token: [action_tokens]."""
        right: np.ndarray = (self.recorded_tokens == self.predicted_tokens).mean(0)
        return right


def play(policy: Any, episode: Episode, embedding: np.ndarray) -> Playback:
    """Steps a policy through an episode.

    Args:
      policy: from `rt1_jax.load_policy`.
      episode: its actions have the fields of the policy's spec.
      embedding: float32 [dimensions], the instruction's, by the policy's encoder.
    """
    spec: ActionSpec = policy.action_spec
    state = policy.initial_state(batch_size=1)
    actions, outputs = [], []
    for image in episode.images:
        state, action, raw = policy.step_with_logits(state, image[None], embedding[None])
        actions.append({name: np.asarray(value)[0] for name, value in action.items()})
        outputs.append(np.asarray(raw, np.float32)[0])
    predicted = {name: np.stack([a[name] for a in actions]) for name in spec.field_names}
    recorded_tokens = spec.tokenize(episode.actions)
    stacked = np.stack(outputs)  # [t, action_tokens, bins], or [t, outputs] where regressed
    of_tokens = None
    if stacked.ndim == 3:
        p = softmax(stacked.astype(np.float64), axis=-1)
        of_tokens = np.take_along_axis(p, recorded_tokens[..., None], axis=-1)[..., 0]
        band, first = _band(spec, p), _first_of_tokens(spec, p)
        predicted_tokens = stacked.argmax(-1).astype(np.int32)
    else:
        band, first = {}, _first_of_outputs(spec, stacked)
        predicted_tokens = spec.tokenize(predicted)
    return Playback(
        dict(episode.actions), predicted, recorded_tokens, predicted_tokens, of_tokens, band, first
    )


def to_json(played: Playback, spec: ActionSpec) -> dict[str, Any]:
    """Everything as JSON-able values: {"steps", "tokens", "fields"}."""
    accuracy = played.accuracy()
    probability = played.recorded_probability
    tokens = {
        name: {
            "token_accuracy": float(accuracy[i]),
            "recorded": played.recorded_tokens[:, i].tolist(),
            "predicted": played.predicted_tokens[:, i].tolist(),
            "recorded_probability": _rounded(None if probability is None else probability[:, i]),
        }
        for i, name in enumerate(spec.token_names)
    }
    fields: dict[str, Any] = {}
    for field in spec.fields:
        found: dict[str, Any] = {"unit": field.unit, "kind": field.kind}
        found |= {"low": list(field.low), "high": list(field.high)}
        found["recorded"] = _rounded(played.recorded[field.name])
        found["predicted"] = _rounded(played.predicted[field.name])
        if field.kind == "one_hot":
            found["first_probability"] = _rounded(played.first_probability[field.name])
        else:
            found["mean_absolute_error"] = _rounded(played.error(field.name))
            found["band"] = _rounded(played.band.get(field.name))
        fields[field.name] = found
    return {"steps": len(played), "tokens": tokens, "fields": fields}


def _band(spec: ActionSpec, p: np.ndarray) -> dict[str, np.ndarray]:
    passed = np.cumsum(p, axis=-1)  # [t, action_tokens, bins]
    # The first bin by which that share has been passed.
    low, high = (spec.detokenize(np.argmax(passed >= q, axis=-1)) for q in BAND)
    return {
        field.name: np.stack([low[field.name], high[field.name]], axis=-1)
        for field in spec.fields
        if field.kind == "continuous"
    }


def _first_of_tokens(spec: ActionSpec, p: np.ndarray) -> dict[str, np.ndarray]:
    found, start = {}, 0
    for field in spec.fields:
        if field.kind == "one_hot":
            first = p[:, start, 0]
            if spec.out_of_range_terminate == "zero_token":  # tokens beyond mean the first, too
                first = first + p[:, start, field.size :].sum(-1)
            found[field.name] = first
        start += field.tokens
    return found


def _first_of_outputs(spec: ActionSpec, outputs: np.ndarray) -> dict[str, np.ndarray]:
    raw: Any = outputs
    parts = split_outputs(raw, spec)  # a one-hot field's are logits
    return {
        field.name: softmax(np.asarray(parts[field.name], np.float64), axis=-1)[:, 0]
        for field in spec.fields
        if field.kind == "one_hot"
    }


def _rounded(values: np.ndarray | None) -> list[Any] | None:
    return None if values is None else np.round(np.asarray(values, np.float64), 7).tolist()

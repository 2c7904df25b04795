"""The training objective and what is measured beside it.

RT-1 minimises the categorical cross-entropy of each action token (Brohan et al. 2022, section 5.1).
Every step of a window is predicted from the steps before it in the window and itself, so a window
of t frames gives t predictions for one encoding of each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.actions import ActionError, ActionSpec

FieldWeights = Sequence[tuple[str, float]]


def token_cross_entropy(
    logits: jax.Array, tokens: jax.Array, smoothing: jax.Array | float = 0.0
) -> jax.Array:
    """Cross-entropy of each action token, in nats.

    Args:
      logits: [batch, time, action_tokens, bins].
      tokens: int32 [batch, time, action_tokens].
      smoothing: standard deviation, in bins, of a bell of target probability around the recorded
        token; a number or one for each action token, float32 [action_tokens]. 0 is all on the
        token, as RT-1 was trained. Neighbouring bins mean nearly the same motion, and with little
        data most bins have few examples of their own.

    Returns:
      float32 [batch, time, action_tokens].
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    if isinstance(smoothing, float) and smoothing == 0.0:
        return -jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
    bins = jnp.arange(logits.shape[-1])
    # A narrow bell is the token alone: its neighbours underflow to zero.
    width = jnp.maximum(jnp.asarray(smoothing, jnp.float32), 1e-3)
    distance = (bins - tokens[..., None]) / jnp.broadcast_to(width, tokens.shape)[..., None]
    target = jax.nn.softmax(-0.5 * jnp.square(distance))
    return -jnp.sum(target * log_probs, -1)


def action_loss(
    logits: jax.Array,
    actions: dict[str, jax.Array],
    mask: jax.Array,
    spec: ActionSpec,
    smoothing: float = 0.0,
    *,
    label_smoothing: float = 0.0,
    field_weights: FieldWeights = (),
) -> tuple[jax.Array, dict[str, Any]]:
    """Mean cross-entropy over tokens and unmasked steps, and metrics per action dimension.

    The original divides by batch * time * (image + action tokens) instead, a constant factor of
    1/228 for two windows of six frames, which Adam does not see.

    Args:
      logits: [batch, time, action_tokens, bins].
      actions: {field: [batch, time, size]} in the units of `spec`.
      mask: float32 [batch, time], 0 for padded steps.
      smoothing: see `token_cross_entropy`; for continuous fields only, since the values of the
        others are not neighbours. The metrics' cross-entropies are without it.
      label_smoothing: share of each token's target that is spread evenly over all bins, for a
        one-hot field over its own values. The rest is where `smoothing` puts it. The metrics are
        without it.
      field_weights: ((field, weight), ...), see `token_weights`. The metrics are without them.

    Raises:
      ValueError: a share that is not in 0..1, or weights that do not fit the spec.

    Returns:
      the objective, and {"loss", "token_accuracy", "accuracy/DIM", "cross_entropy/DIM",
      "error/DIM"}.
      DIM is a token's name; its error is the mean absolute difference of the detokenised argmax
      from the recorded action, in the field's unit (for terminate: the share of wrong decisions).
    """
    tokens = spec.tokenize(actions)
    cross_entropy = token_cross_entropy(logits, tokens)
    objective = cross_entropy
    if smoothing:
        widths = [
            smoothing if field.kind == "continuous" else 0.0
            for field in spec.fields
            for _ in range(1 if field.kind == "one_hot" else field.size)
        ]
        objective = token_cross_entropy(logits, tokens, jnp.asarray(widths))
    check_label_smoothing(label_smoothing)
    if label_smoothing:
        even = -jnp.sum(jax.nn.log_softmax(logits.astype(jnp.float32)) * _even_target(spec), -1)
        objective = (1.0 - label_smoothing) * objective + label_smoothing * even
    weight = mask / jnp.maximum(mask.sum(), 1.0)  # [batch, time], sums to one
    per_token = jnp.einsum("bta,bt->a", cross_entropy, weight)
    loss = mean_over_tokens(jnp.einsum("bta,bt->a", objective, weight), spec, field_weights)
    metrics: dict[str, Any] = {"loss": per_token.mean()}
    metrics |= token_metrics(logits.argmax(-1).astype(jnp.int32), actions, weight, spec)
    for i, name in enumerate(spec.token_names):
        metrics[f"cross_entropy/{name}"] = per_token[i]
    return loss, metrics


def token_weights(spec: ActionSpec, field_weights: FieldWeights) -> np.ndarray | None:
    """The weight of each action token, float32 [action_tokens]; None where all weigh alike.

    Args:
      spec: what the actions mean.
      field_weights: ((field, weight), ...): the weight of each token of that field; 1 for those
        that are not named. Only their proportions matter.

    Raises:
      ValueError: a field that the spec does not have, or one named twice; a weight that is
        negative or not a number; or no weight above 0.
    """
    if not field_weights:
        return None
    weights = dict.fromkeys(spec.field_names, 1.0)
    seen = set()
    for name, value in field_weights:
        if name not in weights:
            raise ActionError(
                f"loss.field_weights: action spec {spec.name!r} has no field {name!r}; it has "
                f"{', '.join(spec.field_names)}"
            )
        if name in seen:
            raise ValueError(f"loss.field_weights names {name!r} twice")
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(
                f"loss.field_weights: the weight of {name!r} is {value}, expected 0 or more"
            )
        seen.add(name)
        weights[name] = float(value)
    per_token = np.repeat(
        np.asarray([weights[f.name] for f in spec.fields], np.float32),
        [f.tokens for f in spec.fields],
    )
    if not per_token.any():
        raise ValueError("loss.field_weights: every field's weight is 0, nothing would be learned")
    return per_token


def mean_over_tokens(
    per_token: jax.Array, spec: ActionSpec, field_weights: FieldWeights = ()
) -> jax.Array:
    """The mean of [action_tokens] losses, weighted by `token_weights`, whose sum it divides by.

    So a weight moves attention between the fields, and not the size of the whole loss.
    """
    weights = token_weights(spec, field_weights)
    return per_token.mean() if weights is None else per_token @ (weights / weights.sum())


def check_label_smoothing(share: float) -> None:
    """Raises ValueError unless it is a share below the whole."""
    if not 0.0 <= share < 1.0:
        raise ValueError(
            f"loss.label_smoothing is {share}, expected a share of at least 0, below 1"
        )


def _even_target(spec: ActionSpec) -> np.ndarray:
    """Probabilities [action_tokens, bins], the same for all values that a token has."""
    rows = []
    for field in spec.fields:
        values = field.size if field.kind == "one_hot" else spec.bins
        rows += [(np.arange(spec.bins) < values) / np.float32(values)] * field.tokens
    return np.asarray(rows, np.float32)


def token_metrics(
    predicted: jax.Array, actions: dict[str, jax.Array], weight: jax.Array, spec: ActionSpec
) -> dict[str, Any]:
    """How well predicted tokens fit recorded actions.

    Args:
      predicted: int32 [batch, time, action_tokens].
      actions: {field: [batch, time, size]}.
      weight: float32 [batch, time], summing to one.
      spec: what the actions mean.

    Returns:
      {"token_accuracy", "accuracy/DIM", "error/DIM"}, see `action_loss`.
    """
    right = (predicted == spec.tokenize(actions)).astype(jnp.float32)
    correct = jnp.einsum("bta,bt->a", right, weight)
    error = jnp.einsum("bta,bt->a", _absolute_error(predicted, actions, spec), weight)
    metrics: dict[str, Any] = {"token_accuracy": correct.mean()}
    for i, name in enumerate(spec.token_names):
        metrics[f"accuracy/{name}"] = correct[i]
        metrics[f"error/{name}"] = error[i]
    return metrics


def _absolute_error(
    predicted: jax.Array, actions: dict[str, jax.Array], spec: ActionSpec
) -> jax.Array:
    """[batch, time, action_tokens] differences in physical units."""
    decoded = spec.detokenize(predicted)
    columns = []
    for field in spec.fields:
        if field.kind == "one_hot":
            wrong = decoded[field.name].argmax(-1) != actions[field.name].argmax(-1)
            columns.append(wrong[..., None].astype(jnp.float32))
        else:
            columns.append(jnp.abs(decoded[field.name] - actions[field.name]))
    return jnp.concatenate(columns, -1)

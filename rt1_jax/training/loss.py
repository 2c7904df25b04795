"""The training objective and what is measured beside it.

RT-1 minimises the categorical cross-entropy of each action token (Brohan et al. 2022, section 5.1).
Every step of a window is predicted from the steps before it in the window and itself, so a window
of t frames gives t predictions for one encoding of each frame.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rt1_jax.actions import ActionSpec


def token_cross_entropy(
    logits: jax.Array, tokens: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Cross-entropy of each action token, in nats.

    Args:
      logits: [batch, time, action_tokens, bins].
      tokens: int32 [batch, time, action_tokens].
      label_smoothing: share of the target spread evenly over all bins.

    Returns:
      float32 [batch, time, action_tokens].
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    chosen = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
    if label_smoothing:
        chosen = (1 - label_smoothing) * chosen + label_smoothing * log_probs.mean(-1)
    return -chosen


def action_loss(
    logits: jax.Array,
    actions: dict[str, jax.Array],
    mask: jax.Array,
    spec: ActionSpec,
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, dict[str, Any]]:
    """Mean cross-entropy over tokens and unmasked steps, and metrics per action dimension.

    The original divides by batch * time * (image + action tokens) instead, a constant factor of
    1/228 for two windows of six frames, which Adam does not see.

    Args:
      logits: [batch, time, action_tokens, bins].
      actions: {field: [batch, time, size]} in the units of `spec`.
      mask: float32 [batch, time], 0 for padded steps.

    Returns:
      the loss, and {"loss", "token_accuracy", "accuracy/DIM", "cross_entropy/DIM", "error/DIM"}.
      DIM is a token's name; its error is the mean absolute difference of the detokenised argmax
      from the recorded action, in the field's unit (for terminate: the share of wrong decisions).
    """
    tokens = spec.tokenize(actions)
    cross_entropy = token_cross_entropy(logits, tokens, label_smoothing)
    weight = mask / jnp.maximum(mask.sum(), 1.0)  # [batch, time], sums to one
    predicted = logits.argmax(-1).astype(jnp.int32)
    per_token = jnp.einsum("bta,bt->a", cross_entropy, weight)
    correct = jnp.einsum("bta,bt->a", (predicted == tokens).astype(jnp.float32), weight)
    error = jnp.einsum("bta,bt->a", _absolute_error(predicted, actions, spec), weight)
    loss = per_token.mean()
    metrics: dict[str, Any] = {"loss": loss, "token_accuracy": correct.mean()}
    for i, name in enumerate(spec.token_names):
        metrics[f"accuracy/{name}"] = correct[i]
        metrics[f"cross_entropy/{name}"] = per_token[i]
        metrics[f"error/{name}"] = error[i]
    return loss, metrics


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

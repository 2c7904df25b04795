"""The objective of policies that regress their actions: BC-Z's losses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rt1_jax.action_values import decode_outputs, is_odds, normalize, split_outputs
from rt1_jax.actions import ActionSpec
from rt1_jax.training.loss import (
    FieldWeights,
    check_label_smoothing,
    mean_over_tokens,
    token_metrics,
)

HUBER_DELTA = 0.1
"""Where the Huber loss turns linear: a tenth of the way from a bound to the middle."""


def continuous_action_loss(
    outputs: jax.Array,
    actions: dict[str, jax.Array],
    mask: jax.Array,
    spec: ActionSpec,
    *,
    label_smoothing: float = 0.0,
    field_weights: FieldWeights = (),
) -> tuple[jax.Array, dict[str, Any]]:
    """Huber loss of motions, log loss of the gripper, cross-entropy of one-hot fields.

    BC-Z (Jang et al. 2021) trains with these losses; it weighs them by hand for its own robot's
    units, where here all numbers are within -1..1 and weigh alike.

    Args:
      outputs: [batch, time, outputs], see `rt1_jax.action_values`.
      actions: {field: [batch, time, size]} in the units of `spec`.
      mask: float32 [batch, time], 0 for padded steps.
      spec: what the actions mean.
      label_smoothing: share of a one-hot field's target that is spread evenly over its values.
      field_weights: ((field, weight), ...), see `token_weights`.

    Raises:
      ValueError: a share that is not in 0..1, or weights that do not fit the spec.

    Returns:
      the objective, and {"loss", "token_accuracy", "accuracy/DIM", "error/DIM"} with the meaning
      that they have in `action_loss`; "loss" is the objective.
    """
    weight = mask / jnp.maximum(mask.sum(), 1.0)  # [batch, time], sums to one
    check_label_smoothing(label_smoothing)
    losses = []
    for field, raw in zip(spec.fields, split_outputs(outputs, spec).values(), strict=True):
        if field.kind == "one_hot":
            labels = actions[field.name].argmax(-1)
            loss = optax.softmax_cross_entropy_with_integer_labels(raw, labels)[..., None]
            if label_smoothing:
                even = -jax.nn.log_softmax(raw).mean(-1, keepdims=True)
                loss = (1.0 - label_smoothing) * loss + label_smoothing * even
        elif is_odds(field):
            share = (normalize(actions, field) + 1) / 2
            loss = optax.sigmoid_binary_cross_entropy(raw, share)
        else:
            # Divided by delta: about as large as a log loss where the error is that large.
            target = normalize(actions, field)
            loss = optax.huber_loss(raw, target, delta=HUBER_DELTA) / HUBER_DELTA
        losses.append(loss)
    per_number = jnp.concatenate(losses, axis=-1)  # [batch, time, tokens]
    per_token = jnp.einsum("bta,bt->a", per_number, weight)
    objective = mean_over_tokens(per_token, spec, field_weights)
    predicted = spec.tokenize(decode_outputs(outputs, spec))
    metrics = token_metrics(predicted, actions, weight, spec)
    return objective, {"loss": objective, **metrics}

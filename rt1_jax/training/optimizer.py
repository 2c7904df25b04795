"""Optimiser and learning-rate schedule from the run's config."""

from __future__ import annotations

from typing import Any

import jax
import optax


def make_schedule(config: Any) -> optax.Schedule:
    """Linear warm-up to `learning_rate`, then cosine decay to `final_learning_rate`.

    Args:
      config: the `optimizer` section: learning_rate, final_learning_rate, warmup_steps, steps.
    """
    if not 0 <= config.warmup_steps < config.steps:
        raise ValueError(
            f"optimizer.warmup_steps is {config.warmup_steps}, expected less than the run's "
            f"{config.steps} steps"
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=config.steps,
        end_value=config.final_learning_rate,
    )


def make_optimizer(config: Any) -> optax.GradientTransformation:
    """AdamW with clipping by global norm; vectors (biases, scales) are not decayed.

    Args:
      config: the `optimizer` section: see `make_schedule`, and clip_norm, b1, b2, weight_decay.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            make_schedule(config),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=_is_matrix,
        ),
    )


def _is_matrix(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)

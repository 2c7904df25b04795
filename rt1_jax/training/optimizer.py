"""Optimiser and learning-rate schedule from the run's config."""

from __future__ import annotations

from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon


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
    """AdamW, or Muon for the matrices, with clipping by global norm.

    Muon (Jordan 2024; Liu et al. 2025) orthogonalises each matrix' momentum, so that directions
    with a weak gradient move as far as the others. That of the instruction is weak at first: in
    `docs/learning.md` a small policy learns to listen in steps in which it hardly begins with
    AdamW. Vectors (biases, scales) and depthwise kernels, which are no matrices, are left to Adam
    then, and are not decayed.

    Args:
      config: the `optimizer` section: see `make_schedule`, and clip_norm, b1, b2, weight_decay, and
        muon_rms, the root mean square of Muon's updates for a learning rate of 1 (0.2 is that of
        Adam's, by Liu et al.); 0 is AdamW.
    """
    clip = optax.clip_by_global_norm(config.clip_norm)
    if config.muon_rms:
        return optax.chain(
            clip,
            muon(
                make_schedule(config),
                weight_decay=config.weight_decay,
                adam_b1=config.b1,
                adam_b2=config.b2,
                muon_weight_dimension_numbers=_matrix_dimensions,
                consistent_rms=config.muon_rms,
            ),
        )
    return optax.chain(
        clip,
        optax.adamw(
            make_schedule(config),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=_is_matrix,
        ),
    )


def _matrix_dimensions(params: Any) -> Any:
    """For each parameter which axes are inputs and which outputs, or None if it is no matrix."""

    def dimensions(path: tuple[Any, ...], p: jax.Array) -> MuonDimensionNumbers | None:
        names = [str(getattr(key, "key", key)) for key in path]
        if p.ndim < 2 or names[-1] != "kernel" or "depthwise_conv" in names:
            return None
        if p.ndim == 3 and names[-2] in ("query", "key", "value"):  # [d, heads, key_dim]
            return MuonDimensionNumbers(0, (1, 2))
        return MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1)

    return jax.tree_util.tree_map_with_path(dimensions, params)


def _is_matrix(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)

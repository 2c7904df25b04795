"""What a training run carries from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from rt1_jax.training.frozen import merge, split, trainable_mask, trained_part


class TrainState(flax.struct.PyTreeNode):
    """Arrays only, so that it can be saved, sharded and donated as a whole.

    Attributes:
      step: int32 [], optimiser steps done.
      params, batch_stats: the model's collections.
      opt_state: the optimiser's.
      average: {"params", "batch_stats"} averaged over the steps (Polyak): what is evaluated and
        deployed.
      skipped: int32 [], updates that were not applied since they were not finite.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any
    skipped: jax.Array

    @classmethod
    def create(
        cls,
        variables: Any,
        optimizer: optax.GradientTransformation,
        frozen: Sequence[str] = (),
    ) -> TrainState:
        """The state before the first step, from the model's freshly made variables.

        The optimiser has no state for parameters under the paths of `frozen`.
        """
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        # A copy: the donated state must not hold one buffer twice.
        average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})
        zero = jnp.zeros((), jnp.int32)
        opt_state = optimizer.init(trained_part(params, frozen))
        return cls(zero, params, batch_stats, opt_state, average, jnp.zeros((), jnp.int32))

    def advance(
        self,
        grads: Any,
        batch_stats: Any,
        optimizer: optax.GradientTransformation,
        decay: float,
        frozen: Sequence[str] = (),
    ) -> TrainState:
        """One optimiser step; nothing but the counters changes if a gradient is not finite.

        Args:
          grads: like the part of `params` that is trained.
          batch_stats: the new normalisation statistics.
          optimizer: made by `make_optimizer`.
          decay: of the average; early on it is lower, so that the random start is forgotten.
          frozen: paths of the parameters that are not trained.
        """
        norm = optax.global_norm(grads)
        finite = jnp.isfinite(norm)
        trained, fixed = split(self.params, trainable_mask(self.params, frozen))
        updates, opt_state = optimizer.update(grads, self.opt_state, trained)
        params = merge(optax.apply_updates(trained, updates), fixed)
        rate = jnp.minimum(decay, (1.0 + self.step) / (10.0 + self.step))
        # What does not change, such as frozen parts, must not by rounding.
        average = jax.tree.map(
            lambda old, new: jnp.where(old == new, old, old * rate + new * (1.0 - rate)),
            self.average,
            {"params": params, "batch_stats": batch_stats},
        )
        new = (params, batch_stats, opt_state, average)
        old = (self.params, self.batch_stats, self.opt_state, self.average)
        kept = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
        params, batch_stats, opt_state, average = kept
        skipped = self.skipped + jnp.where(finite, 0, 1)
        return TrainState(self.step + 1, params, batch_stats, opt_state, average, skipped)

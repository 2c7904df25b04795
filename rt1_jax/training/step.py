"""One training step and one validation step, as pure functions for jit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from rt1_jax.actions import ActionSpec
from rt1_jax.data.augmentation import Augmentation, augment
from rt1_jax.language import EmbeddingStatistics
from rt1_jax.models.frozen_statistics import frozen_statistics
from rt1_jax.models.training_options import TrainingOptions, traced_with
from rt1_jax.models.windows import decode_windows, gather_windows
from rt1_jax.training.continuous_loss import continuous_action_loss
from rt1_jax.training.frozen import merge, split, trainable_mask
from rt1_jax.training.loss import action_loss
from rt1_jax.training.state import TrainState

Batch = dict[str, Any]
Metrics = dict[str, jax.Array]

_NO_AUGMENTATION = Augmentation()


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """How a training step computes; none of it is part of the model.

    Attributes:
      accumulate: parts of a batch that are computed one after another; the objective and its
        gradient are those of the whole batch, normalisation statistics those of each part.
      model: how the model is computed, see `TrainingOptions`.
      smoothing, label_smoothing, field_weights: see `action_loss`.
      frozen: paths of parameters that are not trained, see `rt1_jax.training.frozen`.
    """

    accumulate: int = 1
    model: TrainingOptions = dataclasses.field(default_factory=TrainingOptions)
    smoothing: float = 0.0
    label_smoothing: float = 0.0
    field_weights: tuple[tuple[str, float], ...] = ()
    frozen: tuple[str, ...] = ()


_PLAIN = StepOptions()


def make_train_step(
    model: nn.Module,
    spec: ActionSpec,
    optimizer: optax.GradientTransformation,
    *,
    statistics: EmbeddingStatistics | None,
    average_decay: float,
    augmentation: Augmentation = _NO_AUGMENTATION,
    options: StepOptions = _PLAIN,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Builds `step(state, batch, key) -> (state, metrics)`.

    Args:
      model: one of `rt1_jax.models.registry`; its `config.decoding` says what it is trained for.
      spec: tokenises the batch's actions.
      optimizer: see `make_optimizer`.
      statistics: standardise the embeddings, or None to leave them as they are.
      average_decay: of the averaged weights.
      augmentation: of the frames.
      options: see there.

    The batch is what `make_loader` yields, windows or chunks; `key` is for this step alone.
    """

    apply: Any = model.apply  # Flax types its result as one of many

    def gradients(
        state: TrainState, batch: Batch, depth_key: jax.Array, dropout_key: jax.Array, share: Any
    ) -> tuple[Any, Metrics, Any]:
        """Of a batch or a part of it: gradients, metrics, and the new normalisation statistics."""

        trained, fixed = split(state.params, trainable_mask(state.params, options.frozen))

        def loss_of(trained: Any) -> tuple[jax.Array, Any]:
            with (
                traced_with(options.model),
                frozen_statistics(options.frozen),
            ):
                outputs, updates = apply(
                    {"params": merge(trained, fixed), "batch_stats": state.batch_stats},
                    batch["images"],
                    _standardize(batch["embedding"], statistics),
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"stochastic_depth": depth_key, "dropout": dropout_key},
                    **_method(batch),
                    **given_actions(model, batch["actions"], spec),
                )
            loss, metrics = _loss(model, outputs, batch, spec, options)
            if share is not None:
                loss, metrics = jax.tree.map(lambda x: x * share, (loss, metrics))
            return loss, (metrics, updates.get("batch_stats", {}))

        grads, (metrics, batch_stats) = jax.grad(loss_of, has_aux=True)(trained)
        return grads, metrics, batch_stats

    def accumulated(
        state: TrainState, batch: Batch, depth_key: jax.Array, dropout_key: jax.Array
    ) -> tuple[Any, Metrics, Any]:
        parts = split_batch(batch, options.accumulate)
        steps = jax.vmap(lambda part: _mask(model, part).sum())(parts)  # [accumulate]
        shares = steps / jnp.maximum(steps.sum(), 1.0)

        def add(total: Any, numbered: Any) -> tuple[Any, None]:
            number, part, share = numbered
            keys = jax.random.fold_in(depth_key, number), jax.random.fold_in(dropout_key, number)
            grads, metrics, batch_stats = gradients(state, part, *keys, share)
            mean = jax.tree.map(lambda x: x / options.accumulate, batch_stats)
            return jax.tree.map(jnp.add, total, (grads, metrics, mean)), None

        one = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(gradients, state, one, depth_key, dropout_key, shares[0])
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        numbered = (jnp.arange(options.accumulate), parts, shares)
        return jax.lax.scan(add, zeros, numbered)[0]

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        augmentation_key, depth_key, dropout_key = jax.random.split(key, 3)
        batch = {**batch, "images": augment(augmentation_key, batch["images"], augmentation)}
        if options.accumulate == 1:
            grads, metrics, batch_stats = gradients(state, batch, depth_key, dropout_key, None)
        else:
            grads, metrics, batch_stats = accumulated(state, batch, depth_key, dropout_key)
        metrics["gradient_norm"] = optax.global_norm(grads)
        return state.advance(grads, batch_stats, optimizer, average_decay, options.frozen), metrics

    return step


def make_eval_step(
    model: nn.Module, spec: ActionSpec, *, statistics: EmbeddingStatistics | None
) -> Callable[[Any, Batch], Metrics]:
    """Builds `step(variables, batch) -> metrics`, without augmentation or noise."""

    def step(variables: Any, batch: Batch) -> Metrics:
        embeddings = _standardize(batch["embedding"], statistics)
        outputs: Any = model.apply(
            variables,
            batch["images"],
            embeddings,
            train=False,
            **_method(batch),
            **given_actions(model, batch["actions"], spec),
        )
        return _loss(model, outputs, batch, spec)[1]

    return step


def _standardize(embeddings: jax.Array, statistics: EmbeddingStatistics | None) -> jax.Array:
    return embeddings if statistics is None else statistics.apply(embeddings)


def given_actions(model: Any, actions: dict[str, Any], spec: ActionSpec) -> dict[str, Any]:
    """What an autoregressive model is given beside images and embedding: the tokens taken."""
    if model.config.decoding != "autoregressive":
        return {}
    return {"action_tokens": spec.tokenize(actions)}


def split_batch(batch: Batch, parts: int) -> Batch:
    """Every leaf ``[b, ...]`` as ``[parts, b / parts, ...]``; part i has the rows i, i + parts, ...

    So that each device has its share of every part in its own share of the batch.
    """

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(split, batch)


def _loss(
    model: Any, outputs: jax.Array, batch: Batch, spec: ActionSpec, options: StepOptions = _PLAIN
) -> tuple[jax.Array, Metrics]:
    actions, mask = batch["actions"], _mask(model, batch)
    if _is_chunk(batch):
        frames = model.config.frames
        actions = {name: gather_windows(value, frames) for name, value in actions.items()}
    weights: dict[str, Any] = {
        "label_smoothing": options.label_smoothing,
        "field_weights": options.field_weights,
    }
    if model.config.decoding == "continuous":
        return continuous_action_loss(outputs, actions, mask, spec, **weights)
    return action_loss(outputs, actions, mask, spec, options.smoothing, **weights)


def _mask(model: Any, batch: Batch) -> jax.Array:
    """1 for each step that counts: ``[windows, time]``."""
    if not _is_chunk(batch):
        return batch["mask"]
    windows = gather_windows(batch["mask"], model.config.frames)
    return windows * batch["windows"].reshape(-1, 1)


def _is_chunk(batch: Batch) -> bool:
    return "windows" in batch


def _method(batch: Batch) -> dict[str, Any]:
    """How the model is called: for windows, or for chunks of them."""
    return {"method": decode_windows} if _is_chunk(batch) else {}

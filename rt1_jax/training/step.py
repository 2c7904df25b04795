"""One training step and one validation step, as pure functions for jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import linen as nn

from rt1_jax.actions import ActionSpec
from rt1_jax.data.augmentation import Augmentation, augment
from rt1_jax.language import EmbeddingStatistics
from rt1_jax.models.windows import decode_windows, gather_windows
from rt1_jax.training.continuous_loss import continuous_action_loss
from rt1_jax.training.loss import action_loss
from rt1_jax.training.state import TrainState

Batch = dict[str, Any]
Metrics = dict[str, jax.Array]

_NO_AUGMENTATION = Augmentation()


def make_train_step(
    model: nn.Module,
    spec: ActionSpec,
    optimizer: optax.GradientTransformation,
    *,
    statistics: EmbeddingStatistics | None,
    average_decay: float,
    augmentation: Augmentation = _NO_AUGMENTATION,
    smoothing: float = 0.0,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Builds `step(state, batch, key) -> (state, metrics)`.

    Args:
      model: one of `rt1_jax.models.registry`; its `config.decoding` says what it is trained for.
      spec: tokenises the batch's actions.
      optimizer: see `make_optimizer`.
      statistics: standardise the embeddings, or None to leave them as they are.
      average_decay: of the averaged weights.
      augmentation: of the frames.
      smoothing: see `token_cross_entropy`.

    The batch is what `make_loader` yields, windows or chunks; `key` is for this step alone.
    """

    apply: Any = model.apply  # Flax types its result as one of many

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        augmentation_key, depth_key, dropout_key = jax.random.split(key, 3)
        images = augment(augmentation_key, batch["images"], augmentation)

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            outputs, updates = apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                _standardize(batch["embedding"], statistics),
                train=True,
                mutable=["batch_stats"],
                rngs={"stochastic_depth": depth_key, "dropout": dropout_key},
                **_method(batch),
                **given_actions(model, batch["actions"], spec),
            )
            loss, metrics = _loss(model, outputs, batch, spec, smoothing)
            return loss, (metrics, updates.get("batch_stats", {}))

        grads, (metrics, batch_stats) = jax.grad(loss_of, has_aux=True)(state.params)
        metrics["gradient_norm"] = optax.global_norm(grads)
        return state.advance(grads, batch_stats, optimizer, average_decay), metrics

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


def _loss(
    model: Any, outputs: jax.Array, batch: Batch, spec: ActionSpec, smoothing: float = 0.0
) -> tuple[jax.Array, Metrics]:
    actions, mask = batch["actions"], batch["mask"]
    if _is_chunk(batch):
        frames = model.config.frames
        actions = {name: gather_windows(value, frames) for name, value in actions.items()}
        mask = gather_windows(mask, frames) * batch["windows"].reshape(-1, 1)
    if model.config.decoding == "continuous":
        return continuous_action_loss(outputs, actions, mask, spec)
    return action_loss(outputs, actions, mask, spec, smoothing)


def _is_chunk(batch: Batch) -> bool:
    return "windows" in batch


def _method(batch: Batch) -> dict[str, Any]:
    """How the model is called: for windows, or for chunks of them."""
    return {"method": decode_windows} if _is_chunk(batch) else {}

"""A policy's steps as pure functions: from a state, images and what was told to the next state."""

from __future__ import annotations

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from rt1_jax.action_values import decode_outputs
from rt1_jax.checkpoints.native import PolicyDescription
from rt1_jax.models.stepping import outputs_of_step
from rt1_jax.policies.preparation import Prepared


class PolicyState(flax.struct.PyTreeNode):
    """History of a batch of robots; every array's first axis is the batch.

    Attributes:
      tokens: float32 [batch, time, tokens, features], image tokens, oldest first.
      actions: int32 [batch, time, action_tokens], the actions taken, likewise.
      count: int32 [batch], frames seen since the start of the episode.
      caches: keys and values of the frames seen, or None. A step takes them over: those of the
        state before are deleted, and computed anew if that state is used again.
      keep: whether they are to be kept while the window fills.
    """

    tokens: jax.Array
    actions: jax.Array
    count: jax.Array
    caches: Any = None
    keep: bool = flax.struct.field(pytree_node=False, default=False)


def standardize(description: PolicyDescription, embeddings: Any) -> Any:
    """Embeddings [..., d] as the model takes them, in JAX or NumPy."""
    statistics = description.embedding_statistics
    return embeddings if statistics is None else statistics.apply(embeddings)


def window_logits(
    prepared: Prepared,
    description: PolicyDescription,
    variables: Any,
    images: jax.Array,
    told: jax.Array,
) -> Any:
    """Logits of whole windows; ``told`` is of the windows, or of all their frames."""
    embeddings, film = prepared.told(told)
    return _window(prepared.model, description, {**variables, **film}, images, embeddings)


def full_step(
    prepared: Prepared,
    description: PolicyDescription,
    variables: Any,
    state: PolicyState,
    images: jax.Array,
    told: jax.Array,
    *,
    keep: bool,
) -> tuple[PolicyState, dict[str, jax.Array], jax.Array]:
    """A step whose transformer pass is over the whole window; with ``keep``, caches come of it."""
    embeddings, film = prepared.told(told)
    step = _window_step(
        prepared.model, description, {**variables, **film}, state, images, embeddings
    )
    state, action, newest, caches = step
    return state.replace(caches=caches if keep else None), action, newest


def next_step(
    prepared: Prepared,
    description: PolicyDescription,
    variables: Any,
    state: PolicyState,
    images: jax.Array,
    told: jax.Array,
    *,
    caches: Any,
) -> tuple[PolicyState, dict[str, jax.Array], jax.Array]:
    """A step whose transformer pass is the newest frame's rows: no window is full yet."""
    embeddings, film = prepared.told(told)
    apply: Any = functools.partial(prepared.model.apply, {**variables, **film})
    new = apply(images, embeddings, method="encode_frames")
    newest, caches = apply(new, state.count, caches, method="decode_next")
    chosen = _choose(prepared.model.config, description, newest)
    state, action = _remember(description, place_frame(state, new)[0], chosen)
    return state.replace(caches=caches), action, newest


def step(
    model: Any,
    description: PolicyDescription,
    variables: Any,
    state: PolicyState,
    images: jax.Array,
    embeddings: jax.Array,
) -> tuple[PolicyState, dict[str, jax.Array], jax.Array]:
    """A step as one pure function of the checkpoint's variables and the encoder's embeddings."""
    told = standardize(description, embeddings)
    return _window_step(model, description, variables, state, images, told)[:3]


def logits(
    model: Any,
    description: PolicyDescription,
    variables: Any,
    images: jax.Array,
    embeddings: jax.Array,
) -> Any:
    """Logits of whole windows as one pure function, like :func:`step`; embeddings [b, d]."""
    return _window(model, description, variables, images, standardize(description, embeddings))


def _window(
    model: Any,
    description: PolicyDescription,
    variables: Any,
    images: jax.Array,
    embeddings: jax.Array,
) -> Any:
    config = model.config
    b, t = images.shape[:2]
    flat = images.reshape(b * t, *images.shape[2:])
    encoded: Any = model.apply(variables, flat, embeddings, method="encode_frames")
    tokens = encoded.reshape(b, t, *encoded.shape[1:])
    if config.decoding != "autoregressive":
        return model.apply(variables, tokens, method="decode_tokens")
    actions, found = jnp.zeros((b, t, config.action_tokens), jnp.int32), []
    for step in range(t):  # its own earlier actions are what a step may look at
        position = jnp.full(b, step)
        chosen, newest, _ = _decode(model, description, variables, tokens, actions, position)
        actions = actions.at[:, step].set(chosen)
        found.append(newest)
    return jnp.stack(found, axis=1)


def _window_step(
    model: Any,
    description: PolicyDescription,
    variables: Any,
    state: PolicyState,
    images: jax.Array,
    embeddings: jax.Array,
) -> tuple[PolicyState, dict[str, jax.Array], jax.Array, Any]:
    new: Any = model.apply(variables, images, embeddings, method="encode_frames")
    state, position = place_frame(state, new)
    chosen, newest, caches = _decode(
        model, description, variables, state.tokens, state.actions, position
    )
    state, action = _remember(description, state, chosen)
    return state, action, newest, caches


def place_frame(state: PolicyState, new: jax.Array) -> tuple[PolicyState, jax.Array]:
    """The state with the newest frame's tokens ``[b, tokens, size]`` in it, and where they are."""
    frames = state.tokens.shape[1]
    full = state.count >= frames  # [batch]
    tokens, actions = (
        jnp.where(full.reshape(-1, *(1,) * (x.ndim - 1)), jnp.roll(x, -1, axis=1), x)
        for x in (state.tokens, state.actions)
    )
    position = jnp.minimum(state.count, frames - 1)  # [batch]
    here = jax.nn.one_hot(position, frames, dtype=bool)  # [batch, time]
    tokens = jnp.where(here[..., None, None], new[:, None].astype(tokens.dtype), tokens)
    return state.replace(tokens=tokens, actions=actions), position


def _remember(
    description: PolicyDescription, state: PolicyState, chosen: Any
) -> tuple[PolicyState, dict[str, jax.Array]]:
    """The state after the newest frame's action, given as tokens ``[b, a]`` or as values."""
    if isinstance(chosen, dict):
        return state.replace(count=state.count + 1), chosen
    frames = state.tokens.shape[1]
    here = jax.nn.one_hot(jnp.minimum(state.count, frames - 1), frames, dtype=bool)
    actions = jnp.where(here[..., None], chosen[:, None], state.actions)
    action = description.action_spec.detokenize(chosen)
    return state.replace(actions=actions, count=state.count + 1), action


def _decode(
    model: Any,
    description: PolicyDescription,
    variables: Any,
    tokens: jax.Array,
    actions: jax.Array,
    position: jax.Array,
) -> tuple[Any, jax.Array, Any]:
    """What is chosen at `position`, what is behind it, and the caches of the window, if any."""
    apply: Any = functools.partial(model.apply, variables)
    if model.config.decoding == "autoregressive":
        chosen, newest = apply(tokens, position, actions, method="decode_actions")
        return chosen, newest, None
    if hasattr(model, "decode_newest"):
        newest, caches = apply(tokens, position, method="decode_newest")
    else:
        outputs = apply(tokens, method="decode_tokens")
        newest, caches = outputs_of_step(outputs, position), None
    return _choose(model.config, description, newest), newest, caches


def _choose(config: Any, description: PolicyDescription, newest: jax.Array) -> Any:
    """The most probable action tokens int32 [b, a]; an action where the model regresses it."""
    if config.decoding == "continuous":
        return decode_outputs(newest, description.action_spec)
    return newest.argmax(-1).astype(jnp.int32)

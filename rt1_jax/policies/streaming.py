"""The policy that a robot calls: one frame in, one action out, the history kept as tokens.

Each step encodes the new frame only; the tokens of the frames before it are kept in the state. As
in the original code, the window fills from its oldest place: the first frame of an episode is seen
at position 0 with nothing after it, and once the window is full the oldest frame drops out at the
front, the newest standing last.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rt1_jax.action_values import decode_outputs
from rt1_jax.actions import ActionSpec
from rt1_jax.checkpoints.native import PolicyDescription
from rt1_jax.language import SentenceEncoder, load_encoder


class PolicyInputError(ValueError):
    """Images or embeddings of a shape or type that the policy cannot take."""


class PolicyState(flax.struct.PyTreeNode):
    """History of a batch of robots.

    Attributes:
      tokens: float32 [batch, time, tokens, features], image tokens, oldest first.
      actions: int32 [batch, time, action_tokens], the actions taken, likewise.
      count: int32 [batch], frames seen since the start of the episode.
    """

    tokens: jax.Array
    actions: jax.Array
    count: jax.Array


class Policy:
    """A model with its weights, its action spec and its language encoder.

    Attributes:
      model: the Flax module.
      variables: its collections.
      action_spec: bounds, bins and order of the actions.
      description: what the checkpoint says of itself.
    """

    def __init__(self, model: nn.Module, variables: Any, description: PolicyDescription) -> None:
        self.model = model
        self.variables = jax.device_put(variables)  # at once: 0.5 s sooner than one by one
        self.description = description
        self.action_spec: ActionSpec = description.action_spec
        self._encoder: SentenceEncoder | None = None
        self._logits = jax.jit(functools.partial(_logits, model, description))
        self._step = jax.jit(functools.partial(_step, model, description))

    @property
    def config(self) -> Any:
        """The model's config."""
        return self.model.config

    def embed(self, instructions: Sequence[str]) -> np.ndarray:
        """Embeds n instructions with the encoder that the checkpoint names: float32 [n, d].

        Raises:
          EncoderMismatchError: the encoder found here gives other vectors than the one recorded.
        """
        if self._encoder is None:
            self._encoder = load_encoder(self.description.encoder)
        return self._encoder.embed(instructions)

    def condition(self, embeddings: Any) -> jax.Array:
        """Embeddings [..., d] as the model takes them: standardised, if the checkpoint says so."""
        return _standardize(self.description, jnp.asarray(embeddings))

    def logits(self, images: Any, embeddings: Any) -> jax.Array:
        """Action logits of whole windows, every step predicted from those up to it.

        An autoregressive policy chooses its own actions, the most probable ones, as it would on
        the robot.

        Args:
          images: uint8 [b, t, h, w, 3].
          embeddings: float32 [b, t, d] (or [b, d], one instruction a window).

        Returns:
          float32 [b, t, action_tokens, bins]; [b, t, outputs] for a policy that regresses its
          actions.
        """
        images, embeddings = np.asarray(images), np.asarray(embeddings, np.float32)
        _check_images(images, ndim=5)
        if embeddings.shape[: embeddings.ndim - 1] not in (images.shape[:1], images.shape[:2]):
            raise PolicyInputError(
                f"embeddings have shape {embeddings.shape}, expected [{images.shape[0]}, "
                f"{images.shape[1]}, {self.description.encoder.dimensions}]"
            )
        self._check_dimensions(embeddings)
        return self._logits(self.variables, images, embeddings)

    def initial_state(self, batch_size: int = 1) -> PolicyState:
        """The state before an episode's first frame."""
        config = self.config
        lead = (batch_size, config.frames)
        return PolicyState(
            jnp.zeros((*lead, *config.frame_shape), jnp.float32),
            jnp.zeros((*lead, config.action_tokens), jnp.int32),
            jnp.zeros((batch_size,), jnp.int32),
        )

    def reset(self, state: PolicyState, mask: Any) -> PolicyState:
        """Starts new episodes for the batch elements where `mask`, bool [batch], is true."""
        fresh = jnp.asarray(mask, bool)
        return PolicyState(
            jnp.where(fresh[:, None, None, None], 0.0, state.tokens),
            jnp.where(fresh[:, None, None], 0, state.actions),
            jnp.where(fresh, 0, state.count),
        )

    def step(
        self, state: PolicyState, images: Any, embeddings: Any
    ) -> tuple[PolicyState, dict[str, jax.Array]]:
        """One control step of a batch of robots, which may be at different steps of episodes.

        Args:
          state: from `initial_state` or the step before.
          images: uint8 [b, h, w, 3].
          embeddings: float32 [b, d].

        Returns:
          the next state and {field: [b, size]}, the most probable action of each token.
        """
        state, action, _ = self.step_with_logits(state, images, embeddings)
        return state, action

    def step_with_logits(
        self, state: PolicyState, images: Any, embeddings: Any
    ) -> tuple[PolicyState, dict[str, jax.Array], jax.Array]:
        """As `step`, and what is behind the action: logits float32 [b, action_tokens, bins].

        For a policy that regresses its actions (`config.decoding` is "continuous") it is the
        numbers that the model gave, float32 [b, outputs].
        """
        images, embeddings = np.asarray(images), np.asarray(embeddings, np.float32)
        _check_images(images, ndim=4)
        batch = state.count.shape[0]
        if images.shape[0] != batch or embeddings.shape[:-1] != (batch,):
            raise PolicyInputError(
                f"images {images.shape} and embeddings {embeddings.shape} must both start with the "
                f"state's batch size {batch}"
            )
        self._check_dimensions(embeddings)
        return self._step(self.variables, state, images, embeddings)

    def _check_dimensions(self, embeddings: np.ndarray) -> None:
        expected = self.description.encoder.dimensions
        if embeddings.shape[-1] != expected:
            raise PolicyInputError(
                f"embeddings have {embeddings.shape[-1]} dimensions, expected {expected}"
            )
        if not np.isfinite(embeddings).all():
            raise PolicyInputError("embeddings hold a value that is not finite")


def _check_images(images: np.ndarray, ndim: int) -> None:
    expected = "[batch, time, h, w, 3]" if ndim == 5 else "[batch, h, w, 3]"
    if images.dtype != np.uint8 or images.ndim != ndim or images.shape[-1] != 3:
        raise PolicyInputError(
            f"images are {images.dtype} {images.shape}, expected uint8 {expected} in 0..255"
        )


def _standardize(description: PolicyDescription, embeddings: jax.Array) -> jax.Array:
    statistics = description.embedding_statistics
    return embeddings if statistics is None else statistics.apply(embeddings)


def _logits(
    model: Any,
    description: PolicyDescription,
    variables: Any,
    images: jax.Array,
    embeddings: jax.Array,
) -> Any:
    embeddings = _standardize(description, embeddings)
    config: Any = model.config
    if config.decoding != "autoregressive":
        return model.apply(variables, images, embeddings, train=False)
    b, t = images.shape[:2]
    flat = images.reshape(b * t, *images.shape[2:])
    encoded: Any = model.apply(
        variables, flat, embeddings.reshape(-1, embeddings.shape[-1]), method="encode_frames"
    )
    tokens = encoded.reshape(b, t, *encoded.shape[1:])
    actions, logits = jnp.zeros((b, t, config.action_tokens), jnp.int32), []
    for step in range(t):  # its own earlier actions are what a step may look at
        position = jnp.full(b, step)
        chosen, newest = _decode(model, description, variables, tokens, actions, position)
        actions = actions.at[:, step].set(chosen)
        logits.append(newest)
    return jnp.stack(logits, axis=1)


def _step(
    model: Any,
    description: PolicyDescription,
    variables: Any,
    state: PolicyState,
    images: jax.Array,
    embeddings: jax.Array,
) -> tuple[PolicyState, dict[str, jax.Array], jax.Array]:
    embeddings = _standardize(description, embeddings)
    new: Any = model.apply(variables, images, embeddings, method="encode_frames")
    frames = state.tokens.shape[1]
    full = state.count >= frames  # [batch]
    tokens, actions = (
        jnp.where(full.reshape(-1, *(1,) * (x.ndim - 1)), jnp.roll(x, -1, axis=1), x)
        for x in (state.tokens, state.actions)
    )
    position = jnp.minimum(state.count, frames - 1)  # [batch]
    here = jax.nn.one_hot(position, frames, dtype=bool)  # [batch, time]
    tokens = jnp.where(here[..., None, None], new[:, None], tokens)
    chosen, newest = _decode(model, description, variables, tokens, actions, position)
    action = chosen if isinstance(chosen, dict) else description.action_spec.detokenize(chosen)
    if not isinstance(chosen, dict):
        actions = jnp.where(here[..., None], chosen[:, None], actions)
    return PolicyState(tokens, actions, state.count + 1), action, newest


def _decode(
    model: Any,
    description: PolicyDescription,
    variables: Any,
    tokens: jax.Array,
    actions: jax.Array,
    position: jax.Array,
) -> tuple[Any, jax.Array]:
    """What is chosen at `position`: action tokens [b, a] or an action, and what is behind it."""
    apply: Any = functools.partial(model.apply, variables)
    decoding = model.config.decoding
    if decoding == "autoregressive":
        return apply(tokens, position, actions, method="decode_actions")
    outputs = apply(tokens, method="decode_tokens")
    # [batch, time, ...] -> the newest frame's
    index = position.reshape(-1, *(1,) * (outputs.ndim - 1))
    newest = jnp.take_along_axis(outputs, index, axis=1)[:, 0]
    if decoding == "continuous":
        return decode_outputs(newest, description.action_spec), newest
    return newest.argmax(-1).astype(jnp.int32), newest

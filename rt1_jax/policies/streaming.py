"""The policy that a robot calls: one frame in, one action out, the history kept as tokens.

Each step encodes the new frame only; the tokens of the frames before it are kept in the state. As
in the original code, the window fills from its oldest place: the first frame of an episode is seen
at position 0 with nothing after it, and once the window is full the oldest frame drops out at the
front, the newest standing last. While it fills, a state may keep the transformer's keys and values
as well, so that a step is the new frame's rows alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rt1_jax.actions import ActionSpec
from rt1_jax.checkpoints.native import PolicyDescription
from rt1_jax.language import SentenceEncoder, load_encoder
from rt1_jax.models.stepping import empty_caches, keeps_caches
from rt1_jax.policies.preparation import Prepared, compiler_options
from rt1_jax.policies.steps import (
    PolicyState,
    full_step,
    next_step,
    standardize,
    window_logits,
)

__all__ = ["Policy", "PolicyInputError", "PolicyState"]

_LONG = 512
"""Places of a window from which on states keep keys and values unless told otherwise."""


class PolicyInputError(ValueError):
    """Images or embeddings of a shape or type that the policy cannot take."""


class Policy:
    """A model with its weights, its action spec and its language encoder.

    Attributes:
      model: the Flax module.
      action_spec: bounds, bins and order of the actions.
      description: what the checkpoint says of itself.

    Args:
      model, variables: the Flax module and its collections.
      description: as above.
      compute: see :class:`~rt1_jax.policies.preparation.Prepared`.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: Any,
        description: PolicyDescription,
        compute: str = "float32",
    ) -> None:
        self.model = model
        self.description = description
        self.action_spec: ActionSpec = description.action_spec
        self._given = variables
        self._encoder: SentenceEncoder | None = None
        self._prepared = prepared = Prepared(model, variables, compute)
        self._warm: set[Any] = set()

        def compiled(function: Any, **options: Any) -> Any:
            of = functools.partial(function, prepared, description)
            return jax.jit(prepared.traced(of), compiler_options=compiler_options(), **options)

        self._logits = compiled(window_logits)
        self._full = compiled(full_step, static_argnames="keep")
        self._next = compiled(next_step, donate_argnames="caches")

    @functools.cached_property
    def variables(self) -> Any:
        """The model's collections, as in the checkpoint."""
        return jax.device_put(self._given)

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
        return standardize(self.description, jnp.asarray(embeddings))

    def _instruct(self, embeddings: np.ndarray) -> np.ndarray:
        """[n, d] to what the model is told, [n, width]."""
        return self._prepared.instruct(standardize(self.description, embeddings))

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
        told = self._instruct(embeddings.reshape(-1, embeddings.shape[-1]))
        return self._logits(self._prepared.variables, images, told)

    def initial_state(self, batch_size: int = 1, keep: bool | None = None) -> PolicyState:
        """The state before an episode's first frame.

        Args:
          batch_size: robots.
          keep: whether the state keeps keys and values while the window fills, which makes these
            steps faster and the state larger: for RT-1-X 160 MB a robot in place of 2.5 MB. By
            default where the window is long and the batch is one robot.

        Raises:
          PolicyInputError: ``keep`` asked of a policy that cannot.
        """
        config = self.config
        able = keeps_caches(config)
        if keep and not able:
            raise PolicyInputError(
                f"this policy keeps no keys and values (architecture "
                f"{self.description.architecture!r}, decoding {config.decoding!r}): leave keep out"
            )
        if keep is None:
            keep = able and batch_size == 1 and config.sequence_length >= _LONG
        lead = (batch_size, config.frames)
        return PolicyState(
            jnp.zeros((*lead, *config.frame_shape), jnp.float32),
            jnp.zeros((*lead, config.action_tokens), jnp.int32),
            jnp.zeros((batch_size,), jnp.int32),
            keep=keep,
        )

    def reset(self, state: PolicyState, mask: Any) -> PolicyState:
        """Starts new episodes for the batch elements where `mask`, bool [batch], is true."""
        fresh = jnp.asarray(mask, bool)
        return state.replace(
            tokens=jnp.where(fresh[:, None, None, None], 0.0, state.tokens),
            actions=jnp.where(fresh[:, None, None], 0, state.actions),
            count=jnp.where(fresh, 0, state.count),
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
        told = self._instruct(embeddings)
        variables, keep = self._prepared.variables, state.keep
        if keep:
            self._warm_both(batch, images.shape[1:])
            count = np.asarray(state.count)
            caches = self._usable_caches(state, count)
            state = state.replace(caches=None)
            if caches is not None:
                return self._next(variables, state, images, told, caches=caches)
            keep = bool((count + 1 < self.config.frames).any())
        return self._full(variables, state, images, told, keep=keep)

    def warm_up(
        self,
        batch_size: int = 1,
        image_size: tuple[int, int] | None = None,
        keep: bool | None = None,
    ) -> None:
        """Compiles a step for a batch of that size, so that the first one does not wait for it.

        Args:
          batch_size: robots.
          image_size: (height, width) of the camera's images; by default the checkpoint's.
          keep: as for :meth:`initial_state`.
        """
        state = self.initial_state(batch_size, keep)
        shape = (*(image_size or self.description.image_size), 3)
        told = np.zeros((batch_size, self.description.encoder.dimensions), np.float32)
        jax.block_until_ready(self.step(state, np.zeros((batch_size, *shape), np.uint8), told))

    def _warm_both(self, batch: int, image_shape: tuple[int, ...]) -> None:
        """Compiles both kinds of step of a state that keeps: the second must not wait in flight."""
        if (batch, image_shape) in self._warm:
            return
        self._warm.add((batch, image_shape))
        state = self.initial_state(batch, keep=True)
        images = np.zeros((batch, *image_shape), np.uint8)
        told = self._instruct(np.zeros((batch, self.description.encoder.dimensions), np.float32))
        jax.block_until_ready(self._full(self._prepared.variables, state, images, told, keep=False))

    def _usable_caches(self, state: PolicyState, count: np.ndarray) -> Any:
        """Keys and values for a step of frames all of whose windows still fill, or None."""
        if (count >= self.config.frames).any():
            return None
        lost = state.caches is None or any(x.is_deleted() for x in jax.tree.leaves(state.caches))
        if not lost:
            return state.caches
        return None if count.any() else empty_caches(self._prepared.model.config, len(count))

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

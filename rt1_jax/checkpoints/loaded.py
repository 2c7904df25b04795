"""What a reader of a foreign checkpoint gives back."""

from __future__ import annotations

import dataclasses
from typing import Any

from rt1_jax.actions import ActionSpec
from rt1_jax.checkpoints.adam import AdamMoments
from rt1_jax.checkpoints.native import PolicyDescription
from rt1_jax.language import EncoderIdentity
from rt1_jax.models.config import RT1Config

RT1_ENCODER = EncoderIdentity(
    "tfhub:https://tfhub.dev/google/universal-sentence-encoder-large/5", 512
)
"""The sentence encoder whose vectors the released RT-1 data and models hold."""

RT1_FRAME_RATE = 3.0


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A foreign checkpoint, read.

    Attributes:
      format: ``tf_checkpoint``, ``tf_saved_model``, ``rt1_x_msgpack`` or ``rt1_x_orbax``.
      path: where it was.
      model_config: inferred from tensor names and shapes.
      variables: ``{"params", "batch_stats"}`` as NumPy arrays.
      action_spec: order, bounds and bins of the actions.
      step: optimiser steps; 0 where the checkpoint does not say.
      ignored: for every tensor that is not used, why.
      optimizer_moments: Adam's state, where there is one.
      image_size: (height, width) of the camera's frames; None means the model's own.
    """

    format: str
    path: str
    model_config: RT1Config
    variables: dict[str, Any]
    action_spec: ActionSpec
    step: int
    ignored: dict[str, str]
    optimizer_moments: AdamMoments | None = None
    image_size: tuple[int, int] | None = None

    def description(self) -> PolicyDescription:
        """What a native checkpoint says of the same policy."""
        return PolicyDescription(
            architecture="rt1",
            model=self.model_config.to_json(),
            action_spec=self.action_spec,
            encoder=dataclasses.replace(RT1_ENCODER, dimensions=self.model_config.embedding_size),
            embedding_statistics=None,
            image_size=self.image_size or self.model_config.image_tokenizer.image_size,
            frame_rate=RT1_FRAME_RATE,
            step=self.step,
            source={"format": self.format, "path": self.path},
        )

"""Gato (Reed et al. 2022), as RT-1's paper compares with it: one sequence of all there is.

Image patches, the instruction and actions are tokens alike; one causal transformer reads them and
predicts actions token after token. Nothing conditions the image on the instruction, and no learned
pooling shortens the sequence (Brohan et al. 2022, section 6.2). Differences from Gato: the
instruction is one token made of the frozen sentence encoder's embedding, where Gato reads its
words, and only actions are predicted.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from rt1_jax.models.config import Decoding, TransformerConfig
from rt1_jax.models.inputs import check_frames
from rt1_jax.models.json_config import ConfigError, JsonConfig, one_of
from rt1_jax.models.patch_tokenizer import PatchTokenizer, PatchTokenizerConfig
from rt1_jax.models.stepping import SteppingModel

_PATCHES = PatchTokenizerConfig()
_TRANSFORMER = TransformerConfig(
    layers=11,
    heads=8,
    key_dim=64,
    d_model=512,
    feed_forward="gelu",
    feed_forward_size=2048,
    final_norm=True,
)


@dataclasses.dataclass(frozen=True)
class GatoConfig(JsonConfig):
    """A whole Gato.

    Attributes:
      patches: image and instruction to tokens.
      transformer: all tokens to logits.
      frames: length of the history, in control steps.
      action_tokens: tokens an action takes.
      bins: values a token can take.
      embedding_size: channels of an instruction's embedding.
      past_actions: whether the actions of earlier steps are in the sequence, as in the paper.
      dtype: what is computed in; see ``RT1Config``.
    """

    patches: PatchTokenizerConfig = _PATCHES
    transformer: TransformerConfig = _TRANSFORMER
    frames: int = 6
    action_tokens: int = 11
    bins: int = 256
    embedding_size: int = 512
    past_actions: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "bfloat16"))
        if self.transformer.layers < 1:
            raise ConfigError("GatoConfig.transformer: at least one layer is needed")

    @property
    def decoding(self) -> Decoding:
        """How outputs become actions: token after token."""
        return "autoregressive"

    @property
    def readout(self) -> str:
        """Each token is read at its place of the sequence."""
        return "slots"

    @property
    def outputs(self) -> int:
        """No numbers beside tokens."""
        return 0

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(tokens, features) that a frame becomes, the instruction's token included."""
        return self.patches.tokens, self.patches.token_size

    @property
    def slots(self) -> int:
        """Action slots of one control step."""
        return self.action_tokens

    @property
    def step_tokens(self) -> int:
        """Places that one control step takes in the sequence."""
        return self.patches.tokens + self.action_tokens

    @property
    def sequence_length(self) -> int:
        """Places of the whole history (1,248 by default)."""
        return self.frames * self.step_tokens


def gato_config() -> GatoConfig:
    """At RT-1's size, as RT-1's paper has it (37 M there): 36,720,192 parameters."""
    return GatoConfig()


def gato_tabletop_config() -> GatoConfig:
    """For the tabletop benchmark: 64 x 64 pixels, 16 patches a frame, two frames."""
    return GatoConfig(
        patches=PatchTokenizerConfig(
            image_size=(64, 64), patch_size=16, token_size=96, channels=16, groups=4
        ),
        transformer=TransformerConfig(
            layers=3,
            heads=4,
            key_dim=24,
            d_model=96,
            feed_forward="gelu",
            feed_forward_size=192,
            dropout_rate=0.0,
            final_norm=True,
        ),
        frames=2,
        embedding_size=24,
    )


class Gato(SteppingModel):
    """The whole model: patches and instruction to tokens, then :class:`SequenceModel`."""

    config: GatoConfig

    def setup(self) -> None:
        self.patch_tokenizer = PatchTokenizer(self.config.patches, jnp.dtype(self.config.dtype))
        self.setup_decoder()

    def encode_frames(
        self, images: jax.Array, embeddings: jax.Array, train: bool = False
    ) -> jax.Array:
        """uint8 ``[n, h, w, 3]`` and ``[m, e]`` (m divides n) to ``[n, tokens, token_size]``.

        Raises:
          ValueError: an input of another shape or dtype.
        """
        check_frames("Gato", images, embeddings, self.config.embedding_size)
        return self.patch_tokenizer(images, embeddings, train)

"""Every number that makes one RT-1 differ from another, as frozen dataclasses.

The TensorFlow original, the RT-1-X code and a model small enough for two CPU cores are the same
modules under different configs. Defaults are the original's (Brohan et al. 2022, section 5.1).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from rt1_jax.models.efficientnet_config import (
    B0_STAGES,
    BlockConfig,
    DepthwiseLowering,
    EfficientNetConfig,
    Padding,
    StageConfig,
)
from rt1_jax.models.json_config import ConfigError, JsonConfig, newer, one_of
from rt1_jax.models.resnet import ResNetConfig

__all__ = [
    "B0_STAGES",
    "BlockConfig",
    "ConfigError",
    "Decoding",
    "DepthwiseLowering",
    "EfficientNetConfig",
    "FeedForward",
    "ImageTokenizerConfig",
    "Padding",
    "RT1Config",
    "StageConfig",
    "TokenLearnerConfig",
    "TransformerConfig",
    "oxe_rt1_config",
    "rt1_config",
    "rt1_multirobot_config",
    "rt1_x_config",
]

FeedForward = Literal["linear", "swiglu", "relu", "gelu"]
Decoding = Literal["parallel", "autoregressive", "continuous"]


@dataclasses.dataclass(frozen=True)
class TokenLearnerConfig(JsonConfig):
    """TokenLearner (Ryoo et al. 2021).

    Attributes:
      tokens: how many tokens a frame becomes.
      hidden: width of its hidden layer.
      masks: ``"softmax"`` is version 1.1, as in RT-1: one layer gives all tokens' weights, and each
        token's sum to one over the positions. ``"sigmoid"`` gives every token a hidden layer of its
        own (``hidden`` wide, ReLU) and a mask in 0..1, and divides by the mask's sum.
    """

    tokens: int = 8
    hidden: int = 64
    masks: Literal["softmax", "sigmoid"] = newer("softmax")

    def __post_init__(self) -> None:
        one_of("masks", self.masks, ("softmax", "sigmoid"))


@dataclasses.dataclass(frozen=True)
class ImageTokenizerConfig(JsonConfig):
    """Image and instruction to tokens.

    Attributes:
      efficientnet: the backbone.
      image_size: (height, width) in pixels that images are resized to.
      token_size: channels of an image token.
      token_learner: None keeps every position of the feature map as a token.
      resnet: a plain ResNet as the backbone, in place of the EfficientNet.
      language: how the instruction comes in. ``"film"``, RT-1's way, is FiLM after every block of
        the backbone and once more after it; ``"film_end"`` is the last of these alone; ``"token"``
        is no FiLM, but one token more, before the image's; ``"none"`` leaves the instruction out.
      film: ``"residual"`` is (1 + m) x + a, starting as the identity, as in RT-1; ``"plain"`` is
        m x + a.
      projection: whether a 1x1 convolution makes the backbone's features ``token_size`` wide;
        without it they are so already.
    """

    efficientnet: EfficientNetConfig = dataclasses.field(default_factory=EfficientNetConfig)
    image_size: tuple[int, int] = (300, 300)
    token_size: int = 512
    token_learner: TokenLearnerConfig | None = TokenLearnerConfig()
    resnet: ResNetConfig | None = newer(None)
    language: Literal["film", "film_end", "token", "none"] = newer("film")
    film: Literal["residual", "plain"] = newer("residual")
    projection: bool = newer(True)

    def __post_init__(self) -> None:
        one_of("language", self.language, ("film", "film_end", "token", "none"))
        one_of("film", self.film, ("residual", "plain"))
        if self.resnet is not None and self.resnet.film:
            raise ConfigError("ImageTokenizerConfig.resnet: film must be False, see language")
        if self.resnet is not None and self.language == "film":
            raise ConfigError(
                'ImageTokenizerConfig: language "film" needs the EfficientNet; with a resnet it '
                'is "film_end", "token" or "none"'
            )

    @property
    def feature_size(self) -> tuple[int, int]:
        """(height, width) of the backbone's feature map."""
        backbone = self.efficientnet if self.resnet is None else self.resnet
        return backbone.output_size(self.image_size)

    @property
    def tokens(self) -> int:
        """Tokens that each frame becomes, the instruction's included where it has one."""
        learner = self.token_learner
        image = math.prod(self.feature_size) if learner is None else learner.tokens
        return image + (self.language == "token")


@dataclasses.dataclass(frozen=True)
class TransformerConfig(JsonConfig):
    """The decoder-only transformer.

    Attributes:
      layers: how many layers.
      heads: attention heads of ``key_dim`` channels each.
      key_dim: channels of a head's queries, keys and values.
      d_model: channels of the residual stream.
      feed_forward: ``"linear"`` is one matrix without activation, as the original has it;
        ``"swiglu"`` is (swish(x W0) * (x W1)) W2; ``"relu"`` and ``"gelu"`` are f(x W0) W1.
      feed_forward_size: hidden width of these; ``"linear"`` has none.
      feed_forward_bias: whether the feed-forward layers have biases.
      dropout_rate: on attention weights and feed-forward outputs while training.
      images_see_past_actions: whether image queries may look at earlier steps' action slots (the
        TensorFlow original) or not (the RT-1-X code).
      normalization: LayerNorm before (``"pre"``) attention and feed-forward, or after their
        residual additions (``"post"``).
      position_embedding: whether every place of the sequence has a learned vector.
      final_norm: a LayerNorm after the last layer.
    """

    layers: int = 8
    heads: int = 8
    key_dim: int = 128
    d_model: int = 512
    feed_forward: FeedForward = "linear"
    feed_forward_size: int = 512
    feed_forward_bias: bool = True
    dropout_rate: float = 0.1
    images_see_past_actions: bool = True
    normalization: Literal["pre", "post"] = newer("pre")
    position_embedding: bool = newer(True)
    final_norm: bool = newer(False)

    def __post_init__(self) -> None:
        one_of("feed_forward", self.feed_forward, ("linear", "swiglu", "relu", "gelu"))
        one_of("normalization", self.normalization, ("pre", "post"))


@dataclasses.dataclass(frozen=True)
class RT1Config(JsonConfig):
    """A whole RT-1.

    Attributes:
      image_tokenizer: image and instruction to tokens.
      transformer: tokens of all frames to logits.
      frames: length of the history, in control steps.
      action_tokens: tokens an action takes.
      bins: values a token can take.
      embedding_size: channels of an instruction's embedding.
      dtype: what is computed in, ``"float32"`` or ``"bfloat16"``; parameters, normalisation
        statistics, softmax and logits are float32 in either case.
      decoding: ``"parallel"``, RT-1's way, predicts all tokens of an action at once, action slots
        being zeros; ``"autoregressive"`` puts each token in its slot and predicts the next one
        after it; ``"continuous"`` predicts ``outputs`` numbers in place of tokens.
      readout: ``"slots"`` reads each token at its place of the sequence; ``"mean"`` has no action
        slots and reads all tokens, by a linear head each, from the mean over the frame's tokens.
      outputs: numbers that an action takes with ``"continuous"`` decoding (13 for RT-1's fields).
    """

    image_tokenizer: ImageTokenizerConfig = ImageTokenizerConfig()
    transformer: TransformerConfig = TransformerConfig()
    frames: int = 6
    action_tokens: int = 11
    bins: int = 256
    embedding_size: int = 512
    dtype: Literal["float32", "bfloat16"] = "float32"
    decoding: Decoding = newer("parallel")
    readout: Literal["slots", "mean"] = newer("slots")
    outputs: int = newer(0)

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "bfloat16"))
        one_of("decoding", self.decoding, ("parallel", "autoregressive", "continuous"))
        one_of("readout", self.readout, ("slots", "mean"))
        if (self.decoding == "continuous") != (self.outputs > 0):
            raise ConfigError(
                f"RT1Config.outputs is {self.outputs} with {self.decoding!r} decoding: continuous "
                "decoding needs the numbers that an action takes, the others 0"
            )
        if self.decoding == "autoregressive" and self.readout == "mean":
            raise ConfigError('RT1Config: autoregressive decoding needs the readout "slots"')
        if self.transformer.layers == 0 and self.readout == "slots":
            raise ConfigError('RT1Config: without layers the readout has to be "mean"')

    @property
    def past_actions(self) -> bool:
        """Whether the actions of earlier steps are part of what is looked at."""
        return False

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(tokens, features) that a frame becomes."""
        return self.image_tokenizer.tokens, self.image_tokenizer.token_size

    @property
    def slots(self) -> int:
        """Action slots of one control step in the transformer's sequence."""
        return self.action_tokens if self.readout == "slots" else 0

    @property
    def step_tokens(self) -> int:
        """Places that one control step takes in the transformer's sequence."""
        return self.image_tokenizer.tokens + self.slots

    @property
    def sequence_length(self) -> int:
        """Slots of the whole history (114 for RT-1)."""
        return self.frames * self.step_tokens


def rt1_config() -> RT1Config:
    """RT-1 as released in TensorFlow (``rt1main``, ``rt1simreal``): 35,120,544 parameters."""
    return RT1Config()


def rt1_multirobot_config() -> RT1Config:
    """The released ``rt1multirobot``: 10 layers of width 1024 with heads of 256 channels."""
    transformer = TransformerConfig(layers=10, key_dim=256, d_model=1024, feed_forward_size=1024)
    return RT1Config(transformer=transformer)


def oxe_rt1_config() -> RT1Config:
    """The RT-1-X code in its RT-1 setting: 35,116,448 parameters."""
    efficientnet = EfficientNetConfig(padding="same", batch_norm_unbiased=False)
    transformer = TransformerConfig(feed_forward_bias=False, images_see_past_actions=False)
    return RT1Config(
        image_tokenizer=ImageTokenizerConfig(efficientnet=efficientnet), transformer=transformer
    )


def rt1_x_config() -> RT1Config:
    """The released RT-1-X: 81 tokens a frame, 15 frames, 512 bins, SwiGLU."""
    base = oxe_rt1_config()
    return dataclasses.replace(
        base,
        image_tokenizer=dataclasses.replace(
            base.image_tokenizer, token_learner=TokenLearnerConfig(tokens=81)
        ),
        transformer=dataclasses.replace(
            base.transformer, key_dim=256, feed_forward="swiglu", feed_forward_size=512
        ),
        frames=15,
        bins=512,
    )

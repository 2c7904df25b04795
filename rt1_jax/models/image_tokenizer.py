"""Image and instruction to tokens: backbone, 1x1 convolution, FiLM, TokenLearner."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax import preprocessing
from rt1_jax.models.config import ImageTokenizerConfig
from rt1_jax.models.convolution import PointwiseConv
from rt1_jax.models.efficientnet import EfficientNet
from rt1_jax.models.film import FiLM
from rt1_jax.models.resnet import ResNet
from rt1_jax.models.token_learner import TokenLearner


class ImageTokenizer(nn.Module):
    """uint8 images of any size and instruction embeddings to image tokens."""

    config: ImageTokenizerConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        config = self.config
        if config.resnet is not None:
            self.resnet = ResNet(config.resnet, self.dtype)
        else:
            film = config.language == "film"
            self.efficientnet = EfficientNet(config.efficientnet, self.dtype, film)
        if config.projection:
            self.projection = PointwiseConv(config.token_size, dtype=self.dtype)
        if config.language in ("film", "film_end"):
            self.film = FiLM(self.dtype, config.film == "residual")
        if config.language == "token":
            self.instruction = nn.Dense(config.token_size, dtype=self.dtype)
        if config.token_learner is not None:
            self.token_learner = TokenLearner(config.token_learner, self.dtype)

    def __call__(self, images: jax.Array, embeddings: jax.Array, train: bool = False) -> jax.Array:
        """uint8 ``[n, h, w, 3]`` and ``[m, e]`` (m divides n) to ``[n, tokens, token_size]``."""
        tokens = self.features(images, embeddings, train)
        if self.config.token_learner is not None:
            tokens = self.token_learner(tokens)
        if self.config.language == "token":
            instruction = self.instruction(embeddings.astype(self.dtype))[:, None]
            instruction = jnp.repeat(instruction, images.shape[0] // embeddings.shape[0], axis=0)
            tokens = jnp.concatenate([instruction, tokens], axis=1)
        return tokens

    def features(self, images: jax.Array, embeddings: jax.Array, train: bool = False) -> jax.Array:
        """What TokenLearner looks at: ``[n, positions, token_size]``."""
        config = self.config
        x = preprocessing.preprocess_images(images, config.image_size)
        coordinates = config.efficientnet.coordinate_channels > 0
        if coordinates:
            x = preprocessing.append_coordinates(x)
        embeddings = embeddings.astype(self.dtype)
        backbone = self.efficientnet if config.resnet is None else self.resnet
        x = backbone(x.astype(self.dtype), embeddings, train)
        if coordinates:  # a token's weighted mean then holds the place that it looks at
            x = preprocessing.append_coordinates(x)
        if config.projection:
            x = self.projection(x)
        if config.language in ("film", "film_end"):
            x = self.film(x, embeddings)
        return x.reshape(x.shape[0], -1, x.shape[-1])

    def attention(self, images: jax.Array, embeddings: jax.Array) -> jax.Array:
        """Where each token looks: float32 ``[n, tokens, positions]``; needs a TokenLearner."""
        return self.token_learner.attention(self.features(images, embeddings))

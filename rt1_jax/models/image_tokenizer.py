"""Image and instruction to tokens: FiLM-EfficientNet, 1x1 convolution, FiLM, TokenLearner."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax import preprocessing
from rt1_jax.models.config import ImageTokenizerConfig
from rt1_jax.models.convolution import PointwiseConv
from rt1_jax.models.efficientnet import EfficientNet
from rt1_jax.models.film import FiLM
from rt1_jax.models.token_learner import TokenLearner


class ImageTokenizer(nn.Module):
    """uint8 images of any size and instruction embeddings to image tokens."""

    config: ImageTokenizerConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        config = self.config
        self.efficientnet = EfficientNet(config.efficientnet, self.dtype)
        self.projection = PointwiseConv(config.token_size, dtype=self.dtype)
        self.film = FiLM(self.dtype)
        if config.token_learner is not None:
            self.token_learner = TokenLearner(config.token_learner, self.dtype)

    def __call__(self, images: jax.Array, embeddings: jax.Array, train: bool = False) -> jax.Array:
        """uint8 ``[n, h, w, 3]`` and ``[m, e]`` (m divides n) to ``[n, tokens, token_size]``."""
        features = self.features(images, embeddings, train)
        if self.config.token_learner is None:
            return features
        return self.token_learner(features)

    def features(self, images: jax.Array, embeddings: jax.Array, train: bool = False) -> jax.Array:
        """What TokenLearner looks at: ``[n, positions, token_size]``."""
        x = preprocessing.preprocess_images(images, self.config.image_size)
        coordinates = self.config.efficientnet.coordinate_channels > 0
        if coordinates:
            x = preprocessing.append_coordinates(x)
        embeddings = embeddings.astype(self.dtype)
        x = self.efficientnet(x.astype(self.dtype), embeddings, train)
        if coordinates:  # a token's weighted mean then holds the place that it looks at
            x = preprocessing.append_coordinates(x)
        x = self.film(self.projection(x), embeddings)
        return x.reshape(x.shape[0], -1, x.shape[-1])

    def attention(self, images: jax.Array, embeddings: jax.Array) -> jax.Array:
        """Where each token looks: float32 ``[n, tokens, positions]``; needs a TokenLearner."""
        return self.token_learner.attention(self.features(images, embeddings))

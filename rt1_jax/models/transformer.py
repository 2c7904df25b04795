"""The decoder-only transformer over image tokens and action slots."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.models.config import TransformerConfig
from rt1_jax.models.matrix_product import flat_dot_general

_MASKED = -1e9


class Transformer(nn.Module):
    """Embedded tokens through all layers to logits."""

    config: TransformerConfig
    bins: int
    sequence_length: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        config = self.config
        self.token_embedding = nn.Dense(
            config.d_model, dtype=self.dtype, dot_general=flat_dot_general
        )
        self.position_embedding = PositionEmbedding(self.sequence_length, config.d_model)
        self.layers = [
            TransformerLayer(config, self.dtype, name=f"layer_{i}") for i in range(config.layers)
        ]
        self.output_tokens = nn.Dense(self.bins, dtype=self.dtype, dot_general=flat_dot_general)

    def __call__(
        self,
        tokens: jax.Array,
        mask: np.ndarray,
        rows: np.ndarray | None = None,
        train: bool = False,
    ) -> jax.Array:
        """Logits of the next token at each position.

        Args:
          tokens: ``[b, s, token_size]``; zeros in the action slots.
          mask: bool ``[s, s]``, True where a query (row) may look at a key (column).
          rows: the positions wanted, ``[r]``; None means all. The last layer computes these only.
          train: turns dropout on (rng ``dropout``).

        Returns:
          float32 ``[b, r, bins]``.
        """
        x = self.token_embedding(tokens.astype(self.dtype))
        x = x + self.position_embedding(x.shape[1]).astype(self.dtype)
        for layer in self.layers[:-1]:
            x = layer(x, mask, None, train)
        x = self.layers[-1](x, mask, rows, train)
        return self.output_tokens(x).astype(jnp.float32)


class PositionEmbedding(nn.Module):
    """A learned vector a position, plus one shared bias: Dense(one_hot(position))."""

    length: int
    features: int

    @nn.compact
    def __call__(self, used: int) -> jax.Array:
        """The vectors of the first ``used`` positions: float32 ``[used, features]``."""
        kernel = self.param(
            "kernel", nn.initializers.glorot_uniform(), (self.length, self.features)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return kernel[:used] + bias


class TransformerLayer(nn.Module):
    """Pre-LayerNorm attention and feed-forward, each with a residual connection."""

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: np.ndarray, rows: np.ndarray | None, train: bool = False
    ) -> jax.Array:
        """``[b, s, d]`` to ``[b, r, d]``: the given rows, or all of them."""
        config = self.config
        y = self._layer_norm("layer_norm_1")(x)
        queries = y if rows is None else y[:, rows]
        mask = mask if rows is None else mask[rows]
        attention = Attention(config, self.dtype, name="attention")(queries, y, mask, train)
        x = (x if rows is None else x[:, rows]) + attention
        y = self._layer_norm("layer_norm_2")(x)
        y = FeedForward(config, self.dtype, name="feed_forward")(y)
        return x + nn.Dropout(config.dropout_rate, deterministic=not train)(y)

    def _layer_norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(1e-6, dtype=self.dtype, use_fast_variance=False, name=name)


class Attention(nn.Module):
    """Multi-head attention with heads of any width; softmax in float32."""

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, queries: jax.Array, inputs: jax.Array, mask: np.ndarray, train: bool = False
    ) -> jax.Array:
        """Queries ``[b, r, d]`` over inputs ``[b, s, d]``, mask ``[r, s]``, to ``[b, r, d]``."""
        config = self.config

        def heads(name: str) -> nn.DenseGeneral:
            return nn.DenseGeneral(
                (config.heads, config.key_dim),
                kernel_init=nn.initializers.glorot_uniform(),
                dtype=self.dtype,
                dot_general=flat_dot_general,
                name=name,
            )

        query = heads("query")(queries) * (1 / np.sqrt(config.key_dim)).astype(np.float32)
        query = query.astype(self.dtype)  # [b, r, heads, key_dim]
        key, value = heads("key")(inputs), heads("value")(inputs)  # [b, s, heads, key_dim]
        scores = jnp.einsum("brhk,bshk->bhrs", query, key).astype(jnp.float32)
        weights = nn.softmax(jnp.where(mask, scores, _MASKED), axis=-1).astype(self.dtype)
        self.sow("intermediates", "attention", weights)  # [b, heads, r, s], kept where asked for
        weights = nn.Dropout(config.dropout_rate, deterministic=not train)(weights)
        mixed = jnp.einsum("bhrs,bshk->brhk", weights, value)
        return nn.DenseGeneral(
            config.d_model,
            axis=(-2, -1),
            kernel_init=nn.initializers.glorot_uniform(),
            dtype=self.dtype,
            dot_general=flat_dot_general,
            name="out",
        )(mixed)


class FeedForward(nn.Module):
    """``[..., d]`` to ``[..., d]``: one matrix (the original has no activation here) or SwiGLU."""

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(
                features,
                use_bias=config.feed_forward_bias,
                kernel_init=nn.initializers.glorot_uniform(),
                dtype=self.dtype,
                dot_general=flat_dot_general,
                name=name,
            )

        if config.feed_forward == "linear":
            return dense(config.d_model, "linear")(x)
        gate = nn.swish(dense(config.feed_forward_size, "gate")(x))
        return dense(config.d_model, "down")(gate * dense(config.feed_forward_size, "up")(x))

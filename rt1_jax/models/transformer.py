"""The decoder-only transformer over image tokens and action slots."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rt1_jax.models.attention import MASKED, Mask, attend
from rt1_jax.models.config import TransformerConfig
from rt1_jax.models.matrix_product import flat_dot_general


class Cache(flax.struct.PyTreeNode):
    """What a layer keeps of tokens it has seen.

    Attributes:
      key, value: ``[b, s, heads, key_dim]``.
    """

    key: jax.Array
    value: jax.Array


class Transformer(nn.Module):
    """Tokens through all layers to logits."""

    config: TransformerConfig
    bins: int
    sequence_length: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        config = self.config
        self.token_embedding = nn.Dense(
            config.d_model, dtype=self.dtype, dot_general=flat_dot_general
        )
        if config.position_embedding:
            self.position_embedding = PositionEmbedding(self.sequence_length, config.d_model)
        self.layers = [
            TransformerLayer(config, self.dtype, name=f"layer_{i}") for i in range(config.layers)
        ]
        if config.final_norm:
            self.final_norm = layer_norm(self.dtype)
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
        return self.logits(self.states(tokens, mask, rows, train))

    def logits(self, states: jax.Array) -> jax.Array:
        """``[..., d]`` to float32 ``[..., bins]``."""
        return self.output_tokens(states).astype(jnp.float32)

    def states(
        self,
        tokens: jax.Array,
        mask: np.ndarray,
        rows: np.ndarray | None = None,
        train: bool = False,
    ) -> jax.Array:
        """As :meth:`__call__`, but what the logits are computed from: ``[b, r, d]``."""
        x = self._embed(tokens, np.arange(tokens.shape[1]))
        for layer in self.layers[:-1]:
            x = layer(x, mask, None, train)
        for layer in self.layers[-1:]:
            x = layer(x, mask, rows, train)
        return self._finish(x)

    def prefill(
        self,
        tokens: jax.Array,
        positions: np.ndarray | jax.Array,
        keys: int,
        mask: Mask | Sequence[Mask],
        rows: jax.Array | None = None,
        rows_mask: Mask | None = None,
    ) -> tuple[jax.Array, list[Cache]]:
        """States of the tokens wanted, and what each layer keeps of those that are looked at.

        Args:
          tokens: ``[b, s, token_size]``.
          positions: their places in the sequence, ``[s]`` or ``[b, s]``.
          keys: how many, from the first, are looked at and kept.
          mask: bool, each token (or block of tokens) by the ``keys``; see :func:`attend`.
          rows: int ``[b, r]``, the tokens wanted, all that the last layer computes; None for all.
          rows_mask: their mask, ``[b, r, keys]``.

        Returns:
          ``[b, r, d]`` and a cache of ``keys`` tokens for each layer.
        """
        x, caches = self._embed(tokens, positions), []
        last = (mask, None) if rows is None or rows_mask is None else (rows_mask, rows)
        for layer in self.layers:
            of = last if layer is self.layers[-1] else (mask, None)
            x, cache = layer.step(x, None, keys, *of)
            caches.append(cache)
        return self._finish(x), caches

    def extend(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        caches: list[Cache],
        place: jax.Array,
        keys: int,
        mask: jax.Array,
    ) -> tuple[jax.Array, list[Cache]]:
        """A few tokens more, looking at what is kept; what :meth:`states` gives in their rows.

        Args:
          tokens: ``[b, r, token_size]``.
          positions: int ``[b, r]``, their places in the sequence.
          caches: a layer's each, with room for the tokens.
          place: int ``[]`` or ``[b]``, from where on in the caches they are kept.
          keys: how many of them, from the first, are kept.
          mask: bool ``[b, r, s]``, what of the caches they look at, themselves included.

        Returns:
          their states ``[b, r, d]``, and the caches with them.
        """
        x, new = self._embed(tokens, positions), []
        for layer, cache in zip(self.layers, caches, strict=True):
            x, cache = layer.step(x, (cache, place), keys, mask)
            new.append(cache)
        return self._finish(x), new

    def _embed(self, tokens: jax.Array, positions: np.ndarray | jax.Array) -> jax.Array:
        x = self.token_embedding(tokens.astype(self.dtype))
        if self.config.position_embedding:
            x = x + self.position_embedding(positions).astype(self.dtype)
        return x

    def _finish(self, x: jax.Array) -> jax.Array:
        return self.final_norm(x) if self.config.final_norm else x


class PositionEmbedding(nn.Module):
    """A learned vector a position, plus one shared bias: Dense(one_hot(position))."""

    length: int
    features: int

    @nn.compact
    def __call__(self, positions: np.ndarray | jax.Array) -> jax.Array:
        """The vectors of positions ``[...]``: float32 ``[..., features]``."""
        kernel = self.param(
            "kernel", nn.initializers.glorot_uniform(), (self.length, self.features)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return kernel[positions] + bias


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each with LayerNorm and a residual connection."""

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self.layer_norm_1 = layer_norm(self.dtype)
        self.attention = Attention(self.config, self.dtype)
        self.layer_norm_2 = layer_norm(self.dtype)
        self.feed_forward = FeedForward(self.config, self.dtype)
        self.dropout = nn.Dropout(self.config.dropout_rate)

    def __call__(
        self,
        x: jax.Array,
        mask: np.ndarray,
        rows: np.ndarray | None = None,
        train: bool = False,
    ) -> jax.Array:
        """``[b, s, d]`` to ``[b, r, d]``: the given rows, or all of them."""
        y = self._before(x)
        queries = y if rows is None else y[:, rows]
        mask = mask if rows is None else mask[rows]
        attention = self.attention(queries, self.attention.keep(y), mask, train)
        return self._after(x if rows is None else x[:, rows], attention, train)

    def step(
        self,
        x: jax.Array,
        past: tuple[Cache, jax.Array] | None,
        keys: int,
        mask: Mask | Sequence[Mask],
        rows: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """As :meth:`__call__` for inference, and what later tokens look at.

        Args:
          x: ``[b, s, d]``.
          past: what is kept of earlier tokens, and where the new ones go in it.
          keys: how many tokens of x, from the first, are looked at.
          mask: of the tokens (of ``rows``, if given) by all that is kept.
          rows: int ``[b, r]``, the tokens wanted; None for all.
        """
        y = self._before(x)
        cache = self.attention.keep(y[:, :keys])
        if past is not None:
            cache = jax.tree.map(functools.partial(_put, place=past[1]), past[0], cache)
        if rows is not None:
            x, y = (jnp.take_along_axis(of, rows[..., None], axis=1) for of in (x, y))
        return self._after(x, self.attention(y, cache, mask), False), cache

    def _before(self, x: jax.Array) -> jax.Array:
        return self.layer_norm_1(x) if self.config.normalization == "pre" else x

    def _after(self, x: jax.Array, attention: jax.Array, train: bool) -> jax.Array:
        if self.config.normalization == "post":
            x = self.layer_norm_1(x + attention)
            y = self.dropout(self.feed_forward(x), deterministic=not train)
            return self.layer_norm_2(x + y)
        x = x + attention
        y = self.feed_forward(self.layer_norm_2(x))
        return x + self.dropout(y, deterministic=not train)


class Attention(nn.Module):
    """Multi-head attention with heads of any width; softmax in float32."""

    config: TransformerConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        config = self.config

        def heads() -> nn.DenseGeneral:
            return nn.DenseGeneral(
                (config.heads, config.key_dim),
                kernel_init=nn.initializers.glorot_uniform(),
                dtype=self.dtype,
                dot_general=flat_dot_general,
            )

        self.query, self.key, self.value = heads(), heads(), heads()
        self.dropout = nn.Dropout(config.dropout_rate)
        self.out = nn.DenseGeneral(
            config.d_model,
            axis=(-2, -1),
            kernel_init=nn.initializers.glorot_uniform(),
            dtype=self.dtype,
            dot_general=flat_dot_general,
        )

    def __call__(
        self,
        queries: jax.Array,
        cache: Cache,
        mask: Mask | Sequence[Mask],
        train: bool = False,
    ) -> jax.Array:
        """Queries ``[b, r, d]`` over s kept tokens to ``[b, r, d]``.

        The weights are sown as ``attention`` in the collection ``intermediates``, ``[b, heads, r,
        s]``, where that is asked for; this needs a single mask.
        """
        query = self.query(queries) * (1 / np.sqrt(self.config.key_dim)).astype(np.float32)
        query = query.astype(self.dtype)  # [b, r, heads, key_dim]
        if not (train or self.is_mutable_collection("intermediates")):
            return self.out(attend(query, cache.key, cache.value, mask))
        assert isinstance(mask, (np.ndarray, jax.Array))
        scores = jnp.einsum("brhk,bshk->bhrs", query, cache.key).astype(jnp.float32)
        weights = nn.softmax(jnp.where(mask, scores, MASKED), axis=-1)
        self.sow("intermediates", "attention", weights)
        weights = self.dropout(weights.astype(self.dtype), deterministic=not train)
        return self.out(jnp.einsum("bhrs,bshk->brhk", weights, cache.value))

    def keep(self, x: jax.Array) -> Cache:
        """Keys and values of ``[b, s, d]``."""
        return Cache(self.key(x), self.value(x))


class FeedForward(nn.Module):
    """``[..., d]`` to ``[..., d]``; the original has one matrix without an activation."""

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
        if config.feed_forward in ("relu", "gelu"):
            activation = nn.relu if config.feed_forward == "relu" else nn.gelu
            return dense(config.d_model, "down")(
                activation(dense(config.feed_forward_size, "up")(x))
            )
        gate = nn.swish(dense(config.feed_forward_size, "gate")(x))
        return dense(config.d_model, "down")(gate * dense(config.feed_forward_size, "up")(x))


def layer_norm(dtype: jnp.dtype) -> nn.LayerNorm:
    """LayerNorm with the original's epsilon."""
    return nn.LayerNorm(1e-6, dtype=dtype, use_fast_variance=False)


def _put(kept: jax.Array, new: jax.Array, place: jax.Array) -> jax.Array:
    """``new`` ``[b, r, ...]`` in ``kept`` ``[b, s, ...]`` from ``place`` on, ``[]`` or ``[b]``."""
    if place.ndim and kept.shape[0] == 1:
        place = place[0]  # not a scatter
    if place.ndim == 0:
        return lax.dynamic_update_slice_in_dim(kept, new.astype(kept.dtype), place, 1)
    put = functools.partial(lax.dynamic_update_slice_in_dim, axis=0)
    return jax.vmap(put)(kept, new.astype(kept.dtype), place)

"""TokenLearner (Ryoo et al. 2021): a feature map's positions to a few learned tokens."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax.models.config import TokenLearnerConfig
from rt1_jax.models.matrix_product import einsum, flat_dot_general


class TokenLearner(nn.Module):
    """Every token is a weighted mean of all positions, with weights computed from them."""

    config: TokenLearnerConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        config = self.config
        if config.masks == "sigmoid":
            hidden, first = config.tokens * config.hidden, (config.tokens, config.hidden)
            self.hidden = nn.Dense(hidden, dtype=self.dtype, dot_general=flat_dot_general)
            lecun = nn.initializers.lecun_normal(in_axis=1, out_axis=())
            self.mask_kernel = self.param("mask_kernel", lecun, first)
            self.mask_bias = self.param("mask_bias", nn.initializers.zeros, (config.tokens,))
            return
        self.layer_norm = nn.LayerNorm(1e-6, dtype=self.dtype, use_fast_variance=False)
        self.hidden = nn.Dense(config.hidden, dtype=self.dtype, dot_general=flat_dot_general)
        self.output = nn.Dense(config.tokens, dtype=self.dtype, dot_general=flat_dot_general)

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[n, positions, c]`` to ``[n, tokens, c]``."""
        return einsum("ntp,npc->ntc", self.attention(x).astype(self.dtype), x)

    def attention(self, x: jax.Array) -> jax.Array:
        """The weights of each token: float32 ``[n, tokens, positions]``.

        Rows sum to 1; with sigmoid masks a little less, for 1e-6 is added to the divisor.
        """
        if self.config.masks == "sigmoid":
            y = self._masks(x).astype(jnp.float32)
            return y / (y.sum(-1, keepdims=True) + 1e-6)
        y = self.output(nn.gelu(self.hidden(self.layer_norm(x))))
        return nn.softmax(y.astype(jnp.float32).swapaxes(1, 2), axis=-1)

    def _masks(self, x: jax.Array) -> jax.Array:
        """A mask for each token from layers of its own: ``[n, tokens, positions]`` in 0..1."""
        config = self.config
        y = nn.relu(self.hidden(x)).reshape(*x.shape[:2], config.tokens, config.hidden)
        kernel = self.mask_kernel.astype(self.dtype)  # [tokens, hidden]
        return nn.sigmoid(
            jnp.einsum("npth,th->ntp", y, kernel) + self.mask_bias.astype(self.dtype)[:, None]
        )

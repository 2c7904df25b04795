"""TokenLearner 1.1 (Ryoo et al. 2021): a feature map's positions to a few learned tokens."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax.models.config import TokenLearnerConfig
from rt1_jax.models.matrix_product import flat_dot_general


class TokenLearner(nn.Module):
    """Every token is a weighted mean of all positions, with weights computed from them."""

    config: TokenLearnerConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self.layer_norm = nn.LayerNorm(1e-6, dtype=self.dtype, use_fast_variance=False)
        self.hidden = nn.Dense(self.config.hidden, dtype=self.dtype, dot_general=flat_dot_general)
        self.output = nn.Dense(self.config.tokens, dtype=self.dtype, dot_general=flat_dot_general)

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[n, positions, c]`` to ``[n, tokens, c]``."""
        return jnp.einsum("ntp,npc->ntc", self.attention(x).astype(self.dtype), x)

    def attention(self, x: jax.Array) -> jax.Array:
        """The weights of each token: float32 ``[n, tokens, positions]``, rows sum to 1."""
        y = self.output(nn.gelu(self.hidden(self.layer_norm(x))))
        return nn.softmax(y.astype(jnp.float32).swapaxes(1, 2), axis=-1)

"""Feature-wise linear modulation (Perez et al. 2018): the instruction steers the image features."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class FiLM(nn.Module):
    """``(1 + multiply) * x + add``, both linear in the instruction's embedding.

    Both projections start at zero, so that a pretrained backbone is unchanged at first
    (Brohan et al. 2022, section 5.1). With ``residual=False`` it is ``multiply * x + add``, as
    Perez et al. have it, starting at random.
    """

    dtype: jnp.dtype = jnp.float32
    residual: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, embeddings: jax.Array) -> jax.Array:
        """Conditions ``x`` ``[n, h, w, c]`` on ``embeddings`` ``[m, e]``, m a divisor of n.

        Each embedding serves ``n / m`` consecutive images, so that the projections are computed
        once where a whole history shares an instruction.
        """
        n, height, width, channels = x.shape
        m = embeddings.shape[0]
        init = nn.initializers.zeros if self.residual else nn.linear.default_kernel_init

        def project(name: str) -> jax.Array:
            dense = nn.Dense(channels, kernel_init=init, dtype=self.dtype, name=name)
            return dense(embeddings)[:, None, None, :]  # [m, 1, 1, c]

        add, multiply = project("add"), project("multiply")
        grouped = x.reshape(m, n // m * height, width, channels)
        scale = 1 + multiply if self.residual else multiply
        return (scale * grouped + add).reshape(x.shape)

"""Feature-wise linear modulation (Perez et al. 2018): the instruction steers the image features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rt1_jax.models.packing import pack_rows
from rt1_jax.platforms import platform

MODULATION = "modulation"
"""The collection in which FiLM layers find their projections of an instruction ready-made."""


class FiLM(nn.Module):
    """``(1 + multiply) * x + add``, both linear in the instruction's embedding.

    Both projections start at zero, so that a pretrained backbone is unchanged at first
    (Brohan et al. 2022, section 5.1). With ``residual=False`` it is ``multiply * x + add``, as
    Perez et al. have it, starting at random.
    """

    dtype: jnp.dtype = jnp.float32
    residual: bool = True
    packed: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, embeddings: jax.Array) -> jax.Array:
        """Conditions ``x`` ``[n, h, w, c]`` on ``embeddings`` ``[m, e]``, m a divisor of n.

        Each embedding serves ``n / m`` consecutive images, so that the projections are computed
        once where a whole history shares an instruction. With :func:`modulations` among the
        variables, these are used in place of the embeddings.
        """
        n, height, width, channels = x.shape
        channels //= self.packed
        init = nn.initializers.zeros if self.residual else nn.linear.default_kernel_init

        def project(name: str) -> jax.Array:
            if self.has_variable(MODULATION, name):
                given: Any = self.get_variable(MODULATION, name)
                return given.astype(self.dtype)
            dense = nn.Dense(channels, kernel_init=init, dtype=self.dtype, name=name)
            return dense(embeddings)  # [m, c]

        add, multiply = project("add"), project("multiply")
        if self.packed > 1 or platform() == "tpu":  # where merging axes moves the array
            each = n * self.packed // add.shape[0]  # images of an embedding
            add, multiply = (
                pack_rows(jnp.repeat(of, each, axis=0), self.packed) for of in (add, multiply)
            )
            return (1 + multiply if self.residual else multiply) * x + add
        add, multiply = add[:, None, None, :], multiply[:, None, None, :]
        m = add.shape[0]
        grouped = x.reshape(m, n // m * height, width, channels)
        scale = 1 + multiply if self.residual else multiply
        return (scale * grouped + add).reshape(x.shape)


def modulations(params: Mapping[str, Any], embeddings: Any) -> dict[str, Any]:
    """What the FiLM layers among ``params`` make of embeddings ``[m, e]``, in JAX or NumPy.

    Given to a model beside its parameters, as the collection :data:`MODULATION`, it saves them the
    work at every image while the instruction stays the same.

    Returns:
      float32 ``[m, channels]`` for ``add`` and ``multiply`` of each layer, in the tree of
      ``params``, without all else.
    """
    if set(params) == {"add", "multiply"}:
        return {name: embeddings @ of["kernel"] + of["bias"] for name, of in params.items()}
    parts = {
        name: modulations(of, embeddings) for name, of in params.items() if isinstance(of, Mapping)
    }
    return {name: part for name, part in parts.items() if part}

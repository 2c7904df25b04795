"""Features of a loaded ImageNet backbone, to compare with another library's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.models.efficientnet import EfficientNet

IMAGES = np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype(np.float32)


def own_features(backbone):
    """Features of the loaded backbone, its FiLM layers at zero."""
    model = EfficientNet(backbone.config)
    embeddings = np.ones((2, 8), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES, embeddings)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    variables = {name: {**tree, **backbone.variables[name]} for name, tree in zeros.items()}
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    return jax.jit(model.apply)(variables, IMAGES, embeddings)

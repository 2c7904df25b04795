"""Small models that the TensorFlow original's names can hold."""

from __future__ import annotations

import dataclasses

import numpy as np

from rt1_jax.checkpoints.layout import layout
from rt1_jax.models.config import EfficientNetConfig, TokenLearnerConfig, rt1_config


def small_config():
    """The smallest network that the original's names can hold: EfficientNet-B0."""
    base = rt1_config()
    efficientnet = EfficientNetConfig(width_coefficient=1.0, depth_coefficient=1.0)
    return dataclasses.replace(
        base,
        image_tokenizer=dataclasses.replace(
            base.image_tokenizer,
            efficientnet=efficientnet,
            token_size=16,
            token_learner=TokenLearnerConfig(tokens=4, hidden=8),
        ),
        transformer=dataclasses.replace(
            base.transformer, layers=2, heads=2, key_dim=4, d_model=24, feed_forward_size=24
        ),
        frames=3,
        bins=32,
        embedding_size=20,
    )


def random_variables(config, seed=0):
    rng = np.random.default_rng(seed)
    variables = {"params": {}, "batch_stats": {}}
    for leaf in layout(config):
        node = variables
        for key in leaf.path[:-1]:
            node = node.setdefault(key, {})
        node[leaf.path[-1]] = rng.standard_normal(leaf.shape).astype(np.float32)
    return variables

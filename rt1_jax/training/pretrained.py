"""Starting from a backbone trained on ImageNet, as RT-1 does (Brohan et al. 2022, section 5.1)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rt1_jax.checkpoints.imagenet import (
    Backbone,
    load_backbone,
    read_imagenet,
    with_backbone_conventions,
)
from rt1_jax.models.config import RT1Config
from rt1_jax.training.state import TrainState


def read_backbone(
    path: str, architecture: str, model: dict[str, Any]
) -> tuple[Backbone, dict[str, Any]]:
    """Reads the weights, and the model config that computes as they were trained to.

    Padding and the epsilon of batch normalisation become those of the weights' library, since
    others would change the features.

    Args:
      path: a weights file, see `read_imagenet`.
      architecture: must be "rt1", with an EfficientNet.
      model: the model config as JSON.

    Raises:
      CheckpointError: a file that is not such a backbone.
      ValueError: the model has no EfficientNet.
    """
    if architecture != "rt1" or model["image_tokenizer"].get("resnet"):
        raise ValueError(
            f"backbone_weights is {path!r}, but {architecture!r} with this config has no "
            'EfficientNet: set backbone_weights to ""'
        )
    backbone = read_imagenet(path)
    return backbone, with_backbone_conventions(RT1Config.from_json(model), backbone).to_json()


def with_backbone(state: TrainState, model: dict[str, Any], backbone: Backbone) -> TrainState:
    """The fresh train state with the pretrained backbone in place.

    Raises:
      CheckpointError: the model's backbone is another one.
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    loaded = load_backbone(variables, RT1Config.from_json(model), backbone)
    arrays = jax.tree.map(jnp.array, loaded)
    average = jax.tree.map(jnp.copy, arrays)
    return state.replace(
        params=arrays["params"], batch_stats=arrays["batch_stats"], average=average
    )

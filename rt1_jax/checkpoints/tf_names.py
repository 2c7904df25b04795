"""Names of RT-1's tensors in the TensorFlow original's checkpoints.

A training checkpoint (``ckpt-N``) names tensors by their place in the object graph, under
``agent/_actor_network``; a SavedModel's ``variables`` number the same tensors,
``model_variables/1`` and on, in the order in which ``tf.Module`` flattens: attributes in
alphabetical order, underscore names first.
"""

from __future__ import annotations

import dataclasses
import re

from rt1_jax.checkpoints.layout import Path, layout
from rt1_jax.models.config import EfficientNetConfig, RT1Config

ROOT = "agent/_actor_network"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
NET = f"{ROOT}/_image_tokenizer/_tokenizer/net"

DEAD_ACTION_EMBEDDING = "dead weight: the original embeds action tokens nowhere"
CONSTANT_NORMALIZATION = "ImageNet constants of image normalisation, part of the code here"


@dataclasses.dataclass(frozen=True)
class NamedTensor:
    """A tensor of another implementation.

    Attributes:
      name: its name there.
      shape: its shape there.
      path: its place in this project's variables, or None where it is ignored.
      ignored: why, where it is.
    """

    name: str
    shape: tuple[int, ...]
    path: Path | None
    ignored: str = ""


def named_tensors(config: RT1Config) -> tuple[NamedTensor, ...]:
    """Every tensor of the original's network in SavedModel order.

    Names are the training checkpoint's, without :data:`SUFFIX`; tensor i (from 0) is
    ``model_variables/<i + 1>`` in a SavedModel.
    """
    embedding = f"{ROOT}/_action_token_emb"
    size = config.image_tokenizer.token_size
    tensors = [
        NamedTensor(f"{embedding}/kernel", (config.bins, size), None, DEAD_ACTION_EMBEDDING),
        NamedTensor(f"{embedding}/bias", (size,), None, DEAD_ACTION_EMBEDDING),
    ]
    layers = _keras_layers(config.image_tokenizer.efficientnet)
    for leaf in layout(config):
        if leaf.path[-2:] == ("stem_conv", "kernel"):
            shapes: dict[str, tuple[int, ...]] = {"mean": (3,), "variance": (3,), "count": ()}
            tensors += [
                NamedTensor(
                    f"{NET}/layer_with_weights-0/{name}", shape, None, CONSTANT_NORMALIZATION
                )
                for name, shape in shapes.items()
            ]
        tensors.append(NamedTensor(_name(leaf.path, layers), leaf.stored_shape, leaf.path))
    return tuple(tensors)


def _name(path: Path, layers: dict[str, int]) -> str:
    collection, *modules, leaf = path
    name = "/".join(modules)
    if name.startswith("image_tokenizer/efficientnet/"):
        name = name.removeprefix("image_tokenizer/efficientnet/")
        name, _, projection = name.partition("/") if name.startswith("film") else (name, "", "")
        name = f"{NET}/layer_with_weights-{layers[name]}"
        if projection:
            name = f"{name}/{_PROJECTIONS[projection]}"
    else:
        for pattern, replacement in _MODULES:
            name = re.sub(pattern, replacement, name)
        name = f"{ROOT}/{name}"
    if path[-2] == "depthwise_conv":
        leaf = "depthwise_kernel"
    elif collection == "batch_stats":
        leaf = {"mean": "moving_mean", "var": "moving_variance"}[leaf]
    elif path[-2].endswith("_bn") or "layer_norm" in path[-2]:
        leaf = {"scale": "gamma", "bias": "beta"}[leaf]
    return f"{name}/{leaf}"


_PROJECTIONS = {"add": "_projection_add", "multiply": "_projection_mult"}

_MODULES = (
    (r"^image_tokenizer/projection$", "_image_tokenizer/_tokenizer/conv1x1"),
    (r"^image_tokenizer/film/add$", "_image_tokenizer/_tokenizer/film_layer/_projection_add"),
    (r"^image_tokenizer/film/multiply$", "_image_tokenizer/_tokenizer/film_layer/_projection_mult"),
    (
        r"^image_tokenizer/token_learner/hidden$",
        "_image_tokenizer/_token_learner/mlp/_hidden_layer",
    ),
    (
        r"^image_tokenizer/token_learner/output$",
        "_image_tokenizer/_token_learner/mlp/_output_layer",
    ),
    (r"^image_tokenizer/token_learner/layer_norm$", "_image_tokenizer/_token_learner/layernorm"),
    (r"^transformer/layer_(\d+)/", r"_transformer/_layers/\1/"),
    (r"/layer_norm_([12])$", r"/layernorm\1"),
    (r"/attention/out$", "/mha1/_output_dense"),
    (r"/attention/(\w+)$", r"/mha1/_\1_dense"),
    (r"/feed_forward/linear$", "/ff"),
    (r"^transformer/output_tokens$", "_transformer/_output_tokens"),
    (r"^transformer/position_embedding$", "_transformer/_position_emb"),
    (r"^transformer/token_embedding$", "_transformer/_token_emb"),
)


def _keras_layers(config: EfficientNetConfig) -> dict[str, int]:
    """Number of each layer with weights in the Keras model; 0 is the image normalisation."""
    names = ["normalization", "stem_conv", "stem_bn"]
    for index, block in enumerate(config.blocks):
        parts = ["expand_conv", "expand_bn"] if block.expand_ratio != 1 else []
        parts += ["depthwise_conv", "depthwise_bn"]
        parts += ["squeeze_excite/reduce", "squeeze_excite/expand"] if block.se_ratio > 0 else []
        parts += ["project_conv", "project_bn"]
        names += [f"block_{index:02d}/{part}" for part in parts]
        names.append(f"film_{index:02d}")
    names += ["head_conv", "head_bn"] if config.head_filters else []
    return {name: number for number, name in enumerate(names)}

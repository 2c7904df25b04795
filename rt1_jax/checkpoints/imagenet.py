"""Reads EfficientNet weights trained on ImageNet into the backbone, FiLM left at identity.

RT-1 starts from them (Brohan et al. 2022, section 5.1). Sources: Keras (``.h5``, ``.weights.h5``,
``.keras``, with or without top), torchvision and timm state dicts (``.safetensors``, ``.pth``).
The libraries differ in padding and in batch normalisation's epsilon; the config that comes with
the weights says which, since other conventions would give other features.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any, Literal

import numpy as np

from rt1_jax.checkpoints import imagenet_files, imagenet_names
from rt1_jax.checkpoints.infer import EFFICIENTNETS
from rt1_jax.checkpoints.layout import Leaf, efficientnet_layout
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.models.config import EfficientNetConfig, RT1Config

Source = Literal["keras", "torchvision", "timm", "timm_tf"]

CONVENTIONS: dict[str, dict[str, Any]] = {
    # Keras knows its input size when it is built, which makes its padding the SAME rule.
    "keras": {"padding": "same", "batch_norm_epsilon": 1e-3},
    "torchvision": {"padding": "symmetric", "batch_norm_epsilon": 1e-5},
    "timm": {"padding": "symmetric", "batch_norm_epsilon": 1e-5},
    "timm_tf": {"padding": "same", "batch_norm_epsilon": 1e-3},
}
"""How each library computes. ``timm_tf`` is timm's ``tf_efficientnet_*``, ported from TensorFlow;
its files look like those of ``timm``, so it has to be asked for."""


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A pretrained EfficientNet.

    Attributes:
      source: a key of :data:`CONVENTIONS`.
      config: of the backbone that gives the library's own features.
      variables: ``{"params", "batch_stats"}`` of :class:`rt1_jax.models.efficientnet.EfficientNet`
        without its FiLM layers.
      ignored: for each tensor that is not used, why.
    """

    source: str
    config: EfficientNetConfig
    variables: dict[str, Any]
    ignored: dict[str, str]


def read_imagenet(path: str | os.PathLike[str], source: Source | None = None) -> Backbone:
    """Reads the weights of an EfficientNet B0 to B7.

    Args:
      path: a weights file of Keras, torchvision or timm.
      source: whose conventions hold; None goes by the tensors' names.

    Raises:
      CheckpointError: an unknown file, a tensor that is missing, unknown, or of another shape.
    """
    file = pathlib.Path(path)
    tensors = imagenet_files.read_tensors(file)
    found = imagenet_names.detect_source(tensors)
    if found is None:
        first = ", ".join(sorted(tensors)[:3])
        raise CheckpointError(
            f"{file}: no EfficientNet of Keras, torchvision or timm; its tensors begin {first}"
        )
    library: str = source or found
    if library.removesuffix("_tf") != found:
        raise CheckpointError(f"{file} holds tensors of {found}, not of {library}")
    config = _config(tensors, library, file)
    own = [leaf for leaf in efficientnet_layout(config, 1, ()) if "film" not in leaf.path[1]]
    names = imagenet_names.names(found, config, tensors)
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for leaf in own:
        name = names["/".join(leaf.path[1:])]
        if name not in tensors:
            raise CheckpointError(f"{file}: tensor {name!r} is missing")
        node = variables
        for key in leaf.path[:-1]:
            node = node.setdefault(key, {})
        node[leaf.path[-1]] = _own_value(tensors[name], leaf, found, name, file)
    used = set(names.values())
    ignored = {name: imagenet_names.reason(name) for name in sorted(set(tensors) - used)}
    if unknown := [name for name, reason in ignored.items() if not reason]:
        raise CheckpointError(
            f"{file}: {len(unknown)} tensors are not an EfficientNet's, the first is {unknown[0]!r}"
        )
    return Backbone(library, config, variables, ignored)


def with_backbone_conventions(config: RT1Config, backbone: Backbone) -> RT1Config:
    """The model config whose backbone computes as the pretrained one does."""
    efficientnet = dataclasses.replace(
        config.image_tokenizer.efficientnet,
        width_coefficient=backbone.config.width_coefficient,
        depth_coefficient=backbone.config.depth_coefficient,
        padding=backbone.config.padding,
        batch_norm_epsilon=backbone.config.batch_norm_epsilon,
    )
    tokenizer = dataclasses.replace(config.image_tokenizer, efficientnet=efficientnet)
    return dataclasses.replace(config, image_tokenizer=tokenizer)


def load_backbone(
    variables: dict[str, Any], config: RT1Config, backbone: Backbone
) -> dict[str, Any]:
    """Variables of an RT-1 with the pretrained backbone in place and its FiLM layers at zero.

    Args:
      variables: of the model, e.g. fresh from ``init``; not changed.
      config: of the model; other conventions than the backbone's are refused, see
        :func:`with_backbone_conventions`.
      backbone: from :func:`read_imagenet`.

    Raises:
      CheckpointError: the model's backbone is another one, or computes differently.
    """
    own = config.image_tokenizer.efficientnet
    for name in ("padding", "batch_norm_epsilon", "width_coefficient", "depth_coefficient"):
        theirs = getattr(backbone.config, name)
        if getattr(own, name) != theirs:
            raise CheckpointError(
                f"the model's {name} is {getattr(own, name)!r}, the pretrained backbone's "
                f"{theirs!r}: use with_backbone_conventions, or its features would change"
            )
    loaded: dict[str, Any] = {}
    for collection, tree in variables.items():
        tokenizer = dict(tree.get("image_tokenizer", {}))
        if "efficientnet" in tokenizer:
            films = {
                key: _zeros(value)
                for key, value in tokenizer["efficientnet"].items()
                if key.startswith("film")
            }
            tokenizer["efficientnet"] = films | backbone.variables[collection]
        loaded[collection] = {**tree, "image_tokenizer": tokenizer}
    return loaded


def _zeros(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _zeros(value) for key, value in tree.items()}
    return np.zeros_like(tree)


def _config(tensors: dict[str, np.ndarray], source: str, file: pathlib.Path) -> EfficientNetConfig:
    """The variant by the stem's width and the number of blocks."""
    stem, blocks = imagenet_names.size(source.removesuffix("_tf"), tensors)
    for width, depth in EFFICIENTNETS.values():
        config = EfficientNetConfig(
            width_coefficient=width, depth_coefficient=depth, **CONVENTIONS[source]
        )
        if (config.scaled(config.stem_filters), len(config.blocks)) == (stem, blocks):
            return config
    raise CheckpointError(
        f"{file}: no EfficientNet B0 to B7 has a stem of {stem} channels and {blocks} blocks"
    )


def _own_value(
    value: np.ndarray, leaf: Leaf, source: str, name: str, file: pathlib.Path
) -> np.ndarray:
    if source != "keras" and value.ndim == 4:
        depthwise = leaf.path[-2] == "depthwise_conv"
        # [out, in, k, k] -> [k, k, in, out]; depthwise [c, 1, k, k] -> [k, k, c, 1].
        value = value.transpose(2, 3, 0, 1) if depthwise else value.transpose(2, 3, 1, 0)
    if value.shape != leaf.stored_shape:
        raise CheckpointError(
            f"{file}: tensor {name!r} has shape {value.shape} (as [k, k, in, out]), expected "
            f"{leaf.stored_shape}"
        )
    return np.ascontiguousarray(value, np.float32).reshape(leaf.shape)

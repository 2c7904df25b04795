"""Names of EfficientNet's tensors in Keras, torchvision and timm."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from rt1_jax.checkpoints.layout import efficientnet_layout
from rt1_jax.models.config import EfficientNetConfig

Tensors = Mapping[str, np.ndarray]

_TORCH_BN = {
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def detect_source(tensors: Tensors) -> str | None:
    """``keras``, ``torchvision``, ``timm`` or None, by the names."""
    if "features.0.0.weight" in tensors:
        return "torchvision"
    if "conv_stem.weight" in tensors:
        return "timm"
    keras = any(
        re.search(r"(^|/)block1a_dwconv/|^(_?layers/)?.*depthwise_conv2d", n) for n in tensors
    )
    return "keras" if keras else None


def size(source: str, tensors: Tensors) -> tuple[int, int]:
    """(channels of the stem, number of blocks)."""
    if source == "torchvision":
        blocks = {
            match[1] for n in tensors if (match := re.match(r"features\.(\d+\.\d+)\.block\.", n))
        }
        return tensors["features.0.0.weight"].shape[0], len(blocks)
    if source == "timm":
        blocks = {match[1] for n in tensors if (match := re.match(r"blocks\.(\d+\.\d+)\.", n))}
        return tensors["conv_stem.weight"].shape[0], len(blocks)
    depthwise = [n for n in tensors if re.search(r"dwconv/|depthwise_conv2d(_\d+)?/vars/0$", n)]
    stem = next(
        (n for n in tensors if re.search(r"stem_conv/kernel(:0)?$|/conv2d/vars/0$", n)), None
    )
    return (0 if stem is None else tensors[stem].shape[-1]), len(depthwise)


def reason(name: str) -> str:
    """Why a tensor is ignored, or "" where it is unknown."""
    if re.search(r"(^|/)(predictions|dense|top_dense)(/|$)|^classifier\.", name):
        return "classifier of ImageNet's classes"
    if re.search(r"(^|/)normalization(_\d+)?/", name):
        return "ImageNet constants of image normalisation, part of the code here"
    if name.endswith("num_batches_tracked"):
        return "PyTorch's count of batches"
    if re.search(r"seed_generator|top_level_model_weights", name):
        return "Keras' bookkeeping"
    return ""


def names(source: str, config: EfficientNetConfig, tensors: Tensors) -> dict[str, str]:
    """The library's name of each of the backbone's tensors, by this project's path.

    Paths are ``block_00/depthwise_conv/kernel`` and the like; statistics of batch normalisation
    are ``.../mean`` and ``.../var``.
    """
    paths = [
        leaf.path[1:] for leaf in efficientnet_layout(config, 1, ()) if "film" not in leaf.path[1]
    ]
    if source == "keras":
        return _keras_names(paths, config, tensors)
    module = _torchvision_module if source == "torchvision" else _timm_module
    labels = _labels(config)
    found = {}
    for path in paths:
        name = module("/".join(path[:-1]), labels, config)
        leaf = _TORCH_BN[path[-1]] if path[-2].endswith("_bn") else path[-1]
        found["/".join(path)] = f"{name}.{'weight' if leaf == 'kernel' else leaf}"
    return found


def _labels(config: EfficientNetConfig) -> list[tuple[int, int]]:
    """(stage, repeat), from 0, of each block."""
    labels: list[tuple[int, int]] = []
    per_stage = [int(np.ceil(config.depth_coefficient * stage.repeats)) for stage in config.stages]
    for stage, repeats in enumerate(per_stage):
        labels += [(stage, repeat) for repeat in range(repeats)]
    return labels


def _torchvision_module(
    path: str, labels: list[tuple[int, int]], config: EfficientNetConfig
) -> str:
    head = len(config.stages) + 1
    fixed = {"stem_conv": "0.0", "stem_bn": "0.1", "head_conv": f"{head}.0", "head_bn": f"{head}.1"}
    if path in fixed:
        return f"features.{fixed[path]}"
    block, _, part = path.partition("/")
    index = int(block.removeprefix("block_"))
    stage, repeat = labels[index]
    expands = config.blocks[index].expand_ratio != 1
    layers = ["expand", "depthwise", "squeeze_excite", "project"]
    if not expands:
        layers.remove("expand")
    names = {
        f"{layer}_{kind}": f"{i}.{k}"
        for i, layer in enumerate(layers)
        for k, kind in enumerate(("conv", "bn"))
    }
    squeeze = layers.index("squeeze_excite")
    names["squeeze_excite/reduce"] = f"{squeeze}.fc1"
    names["squeeze_excite/expand"] = f"{squeeze}.fc2"
    return f"features.{stage + 1}.{repeat}.block.{names[part]}"


def _timm_module(path: str, labels: list[tuple[int, int]], config: EfficientNetConfig) -> str:
    fixed = {"stem_conv": "conv_stem", "stem_bn": "bn1", "head_conv": "conv_head", "head_bn": "bn2"}
    if path in fixed:
        return fixed[path]
    block, _, part = path.partition("/")
    index = int(block.removeprefix("block_"))
    stage, repeat = labels[index]
    if config.blocks[index].expand_ratio != 1:
        names = {
            "expand_conv": "conv_pw",
            "expand_bn": "bn1",
            "depthwise_conv": "conv_dw",
            "depthwise_bn": "bn2",
            "project_conv": "conv_pwl",
            "project_bn": "bn3",
        }
    else:
        names = {
            "depthwise_conv": "conv_dw",
            "depthwise_bn": "bn1",
            "project_conv": "conv_pw",
            "project_bn": "bn2",
        }
    names |= {"squeeze_excite/reduce": "se.conv_reduce", "squeeze_excite/expand": "se.conv_expand"}
    return f"blocks.{stage}.{repeat}.{names[part]}"


def _keras_names(
    paths: list[tuple[str, ...]], config: EfficientNetConfig, tensors: Tensors
) -> dict[str, str]:
    """By layer names (``.h5`` of old), or by class and number (``.weights.h5``, ``.keras``)."""
    by_layer: dict[tuple[str, str], str] = {}
    for name in tensors:
        parts = name.split("/")
        if len(parts) >= 2:
            by_layer[parts[-2], parts[-1].removesuffix(":0")] = name
    numbered = any("/vars/" in name for name in tensors)
    labels = _labels(config)
    counts: dict[str, int] = {}
    layers: dict[str, str] = {}
    found = {}
    for path in paths:
        module, leaf = "/".join(path[:-1]), path[-1]
        if module not in layers:
            layers[module] = (
                _numbered_layer(module, counts) if numbered else _named_layer(module, labels)
            )
        layer, full = layers[module], "/".join(path)
        if numbered:
            order = (
                ("scale", "bias", "mean", "var") if module.endswith("_bn") else ("kernel", "bias")
            )
            found[full] = f"layers/{layer}/vars/{order.index(leaf)}"
            continue
        keras = {"scale": "gamma", "mean": "moving_mean", "var": "moving_variance"}.get(leaf, leaf)
        if module.endswith("_bn") and leaf == "bias":
            keras = "beta"
        if module.endswith("depthwise_conv") and (layer, "depthwise_kernel") in by_layer:
            keras = "depthwise_kernel"
        found[full] = by_layer.get((layer, keras), f"{layer}/{keras}")
    return found


def _numbered_layer(module: str, counts: dict[str, int]) -> str:
    """Keras 3 names weights by the layers' class and their order in the model."""
    kind = "conv2d"
    if module.endswith("_bn"):
        kind = "batch_normalization"
    elif module.endswith("depthwise_conv"):
        kind = "depthwise_conv2d"
    number = counts.get(kind, 0)
    counts[kind] = number + 1
    return f"{kind}_{number}" if number else kind


def _named_layer(module: str, labels: list[tuple[int, int]]) -> str:
    fixed = {
        "stem_conv": "stem_conv",
        "stem_bn": "stem_bn",
        "head_conv": "top_conv",
        "head_bn": "top_bn",
    }
    if module in fixed:
        return fixed[module]
    block, _, part = module.partition("/")
    stage, repeat = labels[int(block.removeprefix("block_"))]
    part = {
        "depthwise_conv": "dwconv",
        "depthwise_bn": "bn",
        "squeeze_excite/reduce": "se_reduce",
        "squeeze_excite/expand": "se_expand",
    }.get(part, part)
    return f"block{stage + 1}{chr(ord('a') + repeat)}_{part}"

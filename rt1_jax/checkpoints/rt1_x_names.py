"""Paths of RT-1's tensors in the RT-1-X Flax code's checkpoints."""

from __future__ import annotations

import re

from rt1_jax.checkpoints.layout import Path, layout
from rt1_jax.checkpoints.tf_names import NamedTensor
from rt1_jax.models.config import RT1Config


def named_tensors(config: RT1Config) -> tuple[NamedTensor, ...]:
    """Every tensor of the RT-1-X code's model, named by its '/'-joined path, collection first."""
    first_block_expands = [
        block.expand_ratio != 1 for block in config.image_tokenizer.efficientnet.blocks
    ]
    return tuple(
        NamedTensor(_name(leaf.path, first_block_expands), leaf.stored_shape, leaf.path)
        for leaf in layout(config)
    )


def _name(path: Path, expands: list[bool]) -> str:
    collection, *modules, leaf = path
    name = "/".join(modules)
    if block := re.match(r"image_tokenizer/efficientnet/block_(\d+)/", name):
        # Batch normalisations are numbered in the order of their calls.
        first = 0 if expands[int(block[1])] else -1
        for order, norm in enumerate(("expand_bn", "depthwise_bn", "project_bn")):
            name = name.replace(norm, f"batch_normalization_{order + first}")
    for pattern, replacement in _MODULES:
        name = re.sub(pattern, replacement, name)
    if path[-2] == "depthwise_conv":
        leaf = "depthwise_kernel"
    return f"{collection}/{name}/{leaf}"


def _number(match: re.Match[str]) -> str:
    kind = {"block": "MBConvBlock", "film": "FilmConditioning"}[match[1]]
    return f"{kind}_{int(match[2])}"


_MODULES = (
    (r"image_tokenizer/efficientnet/", "image_tokenizer/EfficientNetWithFilm_0/"),
    (r"(block|film)_(\d\d)(?=/)", _number),
    (r"image_tokenizer/film(?=/)", "image_tokenizer/FilmConditioning_0"),
    (r"(FilmConditioning_\d+)/add$", r"\1/Dense_0"),
    (r"(FilmConditioning_\d+)/multiply$", r"\1/Dense_1"),
    (r"stem_conv$", "Stem_0/conv2d"),
    (r"stem_bn$", "Stem_0/batch_normalization"),
    (r"head_conv$", "Head_0/conv2d"),
    (r"head_bn$", "Head_0/batch_normalization"),
    (r"squeeze_excite/(reduce|expand)$", r"SqueezeExcite_0/\1_conv2d_0"),
    (r"/(expand|project)_conv$", r"/\1_conv2d_0"),
    (r"/depthwise_conv$", "/depthwise_conv2d"),
    (r"image_tokenizer/projection$", "image_tokenizer/Conv_0"),
    (r"token_learner/hidden$", "TokenLearnerModuleV11_0/token_masking/Dense_0"),
    (r"token_learner/output$", "TokenLearnerModuleV11_0/token_masking/Dense_1"),
    (r"token_learner/layer_norm$", "TokenLearnerModuleV11_0/LayerNorm_0"),
    (r"^transformer/layer_(\d+)/", r"Transformer_0/TransformerBlock_\1/"),
    (r"/layer_norm_1$", "/LayerNorm_0"),
    (r"/layer_norm_2$", "/LayerNorm_1"),
    (r"/attention/", "/MultiHeadDotProductAttention_0/"),
    (r"/feed_forward/(?:linear|gate)$", "/Dense_0"),
    (r"/feed_forward/up$", "/Dense_1"),
    (r"/feed_forward/down$", "/Dense_2"),
    (r"^transformer/token_embedding$", "Transformer_0/Dense_0"),
    (r"^transformer/position_embedding$", "Transformer_0/Dense_1"),
    (r"^transformer/output_tokens$", "Transformer_0/Dense_2"),
)

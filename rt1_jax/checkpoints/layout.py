"""All tensors of an RT-1, in one order, with the shape that other implementations store.

The TensorFlow original and the RT-1-X code hold the same tensors in the same shapes, which differ
from this project's only for 1x1 convolutions (``[1, 1, in, out]`` there, ``[in, out]`` here) and
depthwise ones (``[k, k, c, 1]`` there, ``[k, k, c]`` here). Their names are in
:mod:`rt1_jax.checkpoints.tf_names` and :mod:`rt1_jax.checkpoints.rt1_x_names`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from rt1_jax.models.config import EfficientNetConfig, RT1Config, TransformerConfig

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One tensor.

    Attributes:
      path: its place in this project's variables, collection first, e.g.
        ``("params", "transformer", "output_tokens", "bias")``.
      shape: its shape here.
      stored_shape: its shape in the other implementations; a reshape of ``shape``.
    """

    path: Path
    shape: tuple[int, ...]
    stored_shape: tuple[int, ...]


def layout(config: RT1Config) -> tuple[Leaf, ...]:
    """Every tensor of the model's ``params`` and ``batch_stats``.

    The order is that of the original's SavedModel variables: attributes in alphabetical order.
    """
    return tuple(_model(config))


def efficientnet_layout(
    config: EfficientNetConfig,
    embedding_size: int,
    path: Path = ("image_tokenizer", "efficientnet"),
) -> tuple[Leaf, ...]:
    """The backbone's part of :func:`layout`, from the stem to the head."""
    return tuple(_efficientnet(config, embedding_size, path))


def _model(config: RT1Config) -> Iterator[Leaf]:
    tokenizer, transformer = config.image_tokenizer, config.transformer
    size, embedding = tokenizer.token_size, config.embedding_size
    backbone = tokenizer.efficientnet
    features = (
        backbone.scaled(backbone.head_filters)
        if backbone.head_filters
        else backbone.blocks[-1].filters_out
    )
    root = ("image_tokenizer",)
    coordinates = tokenizer.efficientnet.coordinate_channels
    yield from _pointwise((*root, "projection"), features + coordinates, size, bias=False)
    yield from _efficientnet(backbone, embedding, (*root, "efficientnet"))
    yield from _film((*root, "film"), embedding, size)
    if tokenizer.token_learner is not None:
        learner = tokenizer.token_learner
        yield from _dense((*root, "token_learner", "hidden"), (size, learner.hidden))
        yield from _dense((*root, "token_learner", "output"), (learner.hidden, learner.tokens))
        yield from _norm((*root, "token_learner", "layer_norm"), size)
    for i in range(transformer.layers):
        yield from _transformer_layer(("transformer", f"layer_{i}"), transformer)
    width = transformer.d_model
    yield from _dense(("transformer", "output_tokens"), (width, config.bins))
    yield from _dense(("transformer", "position_embedding"), (config.sequence_length, width))
    yield from _dense(("transformer", "token_embedding"), (size, width))


def _efficientnet(config: EfficientNetConfig, embedding: int, root: Path) -> Iterator[Leaf]:
    stem = config.scaled(config.stem_filters)
    channels = 3 + config.coordinate_channels
    stem_shape = (config.stem_kernel, config.stem_kernel, channels, stem)
    yield _leaf((*root, "stem_conv", "kernel"), stem_shape)
    yield from _batch_norm((*root, "stem_bn"), stem)
    for index, block in enumerate(config.blocks):
        path = (*root, f"block_{index:02d}")
        filters = block.filters_in * block.expand_ratio
        if block.expand_ratio != 1:
            yield from _pointwise((*path, "expand_conv"), block.filters_in, filters, bias=False)
            yield from _batch_norm((*path, "expand_bn"), filters)
        kernel = (block.kernel, block.kernel, filters)
        yield _leaf((*path, "depthwise_conv", "kernel"), kernel, (*kernel, 1))
        yield from _batch_norm((*path, "depthwise_bn"), filters)
        if block.se_ratio > 0:
            squeezed = max(1, int(block.filters_in * block.se_ratio))
            yield from _pointwise((*path, "squeeze_excite", "reduce"), filters, squeezed, bias=True)
            yield from _pointwise((*path, "squeeze_excite", "expand"), squeezed, filters, bias=True)
        yield from _pointwise((*path, "project_conv"), filters, block.filters_out, bias=False)
        yield from _batch_norm((*path, "project_bn"), block.filters_out)
        yield from _film((*root, f"film_{index:02d}"), embedding, block.filters_out)
    if config.head_filters:
        head = config.scaled(config.head_filters)
        last = config.blocks[-1].filters_out
        yield from _pointwise((*root, "head_conv"), last, head, bias=False)
        yield from _batch_norm((*root, "head_bn"), head)


def _transformer_layer(path: Path, config: TransformerConfig) -> Iterator[Leaf]:
    width, heads = config.d_model, (config.heads, config.key_dim)
    yield from _norm((*path, "layer_norm_1"), width)
    attention = (*path, "attention")
    yield from _dense((*attention, "key"), (width, *heads), heads)
    yield from _dense((*attention, "out"), (*heads, width))
    yield from _dense((*attention, "query"), (width, *heads), heads)
    yield from _dense((*attention, "value"), (width, *heads), heads)
    hidden, bias = config.feed_forward_size, config.feed_forward_bias
    feed_forward = (*path, "feed_forward")
    if config.feed_forward == "linear":
        yield from _dense((*feed_forward, "linear"), (width, width), bias=bias)
    else:
        yield from _dense((*feed_forward, "gate"), (width, hidden), bias=bias)
        yield from _dense((*feed_forward, "up"), (width, hidden), bias=bias)
        yield from _dense((*feed_forward, "down"), (hidden, width), bias=bias)
    yield from _norm((*path, "layer_norm_2"), width)


def _leaf(path: Path, shape: tuple[int, ...], stored: tuple[int, ...] | None = None) -> Leaf:
    return Leaf(("params", *path), shape, stored or shape)


def _pointwise(path: Path, channels: int, features: int, *, bias: bool) -> Iterator[Leaf]:
    shape = (channels, features)
    yield _leaf((*path, "kernel"), shape, (1, 1, *shape))
    if bias:
        yield _leaf((*path, "bias"), (features,))


def _dense(
    path: Path,
    shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None = None,
    *,
    bias: bool = True,
) -> Iterator[Leaf]:
    yield _leaf((*path, "kernel"), shape)
    if bias:
        yield _leaf((*path, "bias"), bias_shape or shape[-1:])


def _film(path: Path, embedding: int, channels: int) -> Iterator[Leaf]:
    yield from _dense((*path, "add"), (embedding, channels))
    yield from _dense((*path, "multiply"), (embedding, channels))


def _norm(path: Path, channels: int) -> Iterator[Leaf]:
    yield _leaf((*path, "scale"), (channels,))
    yield _leaf((*path, "bias"), (channels,))


def _batch_norm(path: Path, channels: int) -> Iterator[Leaf]:
    for name in ("mean", "var"):
        yield Leaf(("batch_stats", *path, name), (channels,), (channels,))
    yield from _norm(path, channels)

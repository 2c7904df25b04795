"""The model config that a foreign checkpoint's tensor names and shapes imply."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from rt1_jax.checkpoints import tf_names
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.models.config import (
    EfficientNetConfig,
    RT1Config,
    TokenLearnerConfig,
    oxe_rt1_config,
    rt1_config,
)

Shapes = Mapping[str, tuple[int, ...]]

ACTION_TOKENS = 11

EFFICIENTNETS = {
    "B0": (1.0, 1.0),
    "B1": (1.0, 1.1),
    "B2": (1.1, 1.2),
    "B3": (1.2, 1.4),
    "B4": (1.4, 1.8),
    "B5": (1.6, 2.2),
    "B6": (1.8, 2.6),
    "B7": (2.0, 3.1),
}
"""Width and depth coefficients of the published EfficientNets (Tan & Le 2019)."""


def infer_tf_config(shapes: Shapes, what: str) -> RT1Config:
    """The config of a TensorFlow RT-1 from its training checkpoint's names and shapes.

    Args:
      shapes: shape by name, without ``/.ATTRIBUTES/VARIABLE_VALUE``.
      what: the checkpoint, for messages.

    Raises:
      CheckpointError: a tensor that the config is read from is missing or of another rank.
    """
    root = tf_names.ROOT
    tokenizer, transformer = f"{root}/_image_tokenizer", f"{root}/_transformer"
    find = _Finder(shapes, what)
    base = rt1_config()
    stem = find(f"{tf_names.NET}/layer_with_weights-1/kernel", 4)[-1]
    layers = find.count(rf"{re.escape(transformer)}/_layers/(\d+)/")
    films = find.count(rf"{re.escape(tf_names.NET)}/layer_with_weights-(\d+)/_projection_add")
    hidden, tokens = find(f"{tokenizer}/_token_learner/mlp/_output_layer/kernel", 2)
    width, heads, key_dim = find(f"{transformer}/_layers/0/mha1/_query_dense/kernel", 3)
    length = find(f"{transformer}/_position_emb/kernel", 2)[0]
    return dataclasses.replace(
        base,
        image_tokenizer=dataclasses.replace(
            base.image_tokenizer,
            efficientnet=_efficientnet(base.image_tokenizer.efficientnet, stem, films, what),
            token_size=find(f"{tokenizer}/_tokenizer/conv1x1/kernel", 4)[-1],
            token_learner=TokenLearnerConfig(tokens=tokens, hidden=hidden),
        ),
        transformer=dataclasses.replace(
            base.transformer,
            layers=layers,
            heads=heads,
            key_dim=key_dim,
            d_model=width,
            feed_forward_size=find(f"{transformer}/_layers/0/ff/kernel", 2)[-1],
        ),
        frames=_frames(length, tokens, what),
        bins=find(f"{transformer}/_output_tokens/kernel", 2)[-1],
        embedding_size=find(f"{tokenizer}/_tokenizer/film_layer/_projection_add/kernel", 2)[0],
    )


def infer_numbered_tf_config(shapes: Shapes, what: str) -> RT1Config:
    """The config of a SavedModel's ``model_variables/N`` from their number and shapes.

    The number of variables fixes backbone and layers; names then follow from the order.
    """
    count = len(shapes)
    numbers = {f"model_variables/{i}" for i in range(1, count + 1)}
    if set(shapes) != numbers:
        first = sorted(set(shapes) ^ numbers)[0]
        raise CheckpointError(
            f"{what}: expected {count} tensors model_variables/1 to /{count}, but {first!r} does "
            "not fit in"
        )
    base = rt1_config()
    for width, depth in EFFICIENTNETS.values():
        efficientnet = dataclasses.replace(
            base.image_tokenizer.efficientnet, width_coefficient=width, depth_coefficient=depth
        )
        tokenizer = dataclasses.replace(base.image_tokenizer, efficientnet=efficientnet)
        one = dataclasses.replace(
            base,
            image_tokenizer=tokenizer,
            transformer=dataclasses.replace(base.transformer, layers=1),
        )
        rest = len(tf_names.named_tensors(one)) - _TF_LAYER_TENSORS
        layers, remainder = divmod(count - rest, _TF_LAYER_TENSORS)
        if remainder or layers < 1:
            continue
        guess = dataclasses.replace(
            one, transformer=dataclasses.replace(base.transformer, layers=layers)
        )
        names = [tensor.name for tensor in tf_names.named_tensors(guess)]
        named = {name: shapes[f"model_variables/{i}"] for i, name in enumerate(names, start=1)}
        try:
            config = infer_tf_config(named, what)
        except CheckpointError:
            continue
        if all(named[t.name] == t.shape for t in tf_names.named_tensors(config)):
            return config
    raise CheckpointError(
        f"{what}: {count} model_variables in shapes that no RT-1 with an EfficientNet B0 to B7 has"
    )


def infer_rt1_x_config(shapes: Shapes, what: str) -> RT1Config:
    """The config of an RT-1-X code's checkpoint from its paths ("params/...") and shapes.

    Raises:
      CheckpointError: a tensor that the config is read from is missing or of another rank.
    """
    find = _Finder(shapes, what)
    tokenizer, transformer = "params/image_tokenizer", "params/Transformer_0"
    base = oxe_rt1_config()
    backbone = f"{tokenizer}/EfficientNetWithFilm_0"
    efficientnet = _efficientnet(
        base.image_tokenizer.efficientnet,
        find(f"{backbone}/Stem_0/conv2d/kernel", 4)[-1],
        find.count(rf"{backbone}/FilmConditioning_(\d+)/"),
        what,
    )
    learner = f"{tokenizer}/TokenLearnerModuleV11_0/token_masking/Dense_1/kernel"
    hidden, tokens = find(learner, 2) if learner in shapes else (0, 0)
    image_tokenizer = dataclasses.replace(
        base.image_tokenizer,
        efficientnet=efficientnet,
        token_size=find(f"{tokenizer}/Conv_0/kernel", 4)[-1],
        token_learner=TokenLearnerConfig(tokens, hidden) if tokens else None,
    )
    block = f"{transformer}/TransformerBlock_0"
    width, heads, key_dim = find(f"{block}/MultiHeadDotProductAttention_0/query/kernel", 3)
    length = find(f"{transformer}/Dense_1/kernel", 2)[0]
    return dataclasses.replace(
        base,
        image_tokenizer=image_tokenizer,
        transformer=dataclasses.replace(
            base.transformer,
            layers=find.count(rf"{transformer}/TransformerBlock_(\d+)/"),
            heads=heads,
            key_dim=key_dim,
            d_model=width,
            feed_forward="swiglu" if f"{block}/Dense_1/kernel" in shapes else "linear",
            feed_forward_size=find(f"{block}/Dense_0/kernel", 2)[-1],
            feed_forward_bias=f"{block}/Dense_0/bias" in shapes,
        ),
        frames=_frames(length, image_tokenizer.tokens, what),
        bins=find(f"{transformer}/Dense_2/kernel", 2)[-1],
        embedding_size=find(f"{tokenizer}/FilmConditioning_0/Dense_0/kernel", 2)[0],
    )


def is_rt1_x(shapes: Shapes) -> bool:
    """Whether these are paths of the RT-1-X code."""
    return any(name.startswith("params/Transformer_0/") for name in shapes)


_TF_LAYER_TENSORS = len(
    [t for t in tf_names.named_tensors(rt1_config()) if "/_transformer/_layers/0/" in t.name]
)


class _Finder:
    def __init__(self, shapes: Shapes, what: str) -> None:
        self._shapes, self._what = shapes, what

    def __call__(self, name: str, rank: int) -> tuple[int, ...]:
        if name not in self._shapes:
            raise CheckpointError(f"{self._what}: tensor {name!r} is missing")
        shape = tuple(self._shapes[name])
        if len(shape) != rank:
            raise CheckpointError(
                f"{self._what}: tensor {name!r} has shape {shape}, expected {rank} dimensions"
            )
        return shape

    def count(self, pattern: str) -> int:
        """How many different numbers follow the pattern."""
        matches = (re.match(pattern, name) for name in self._shapes)
        return len({match[1] for match in matches if match})


def _efficientnet(
    base: EfficientNetConfig, stem: int, blocks: int, what: str
) -> EfficientNetConfig:
    for width, depth in EFFICIENTNETS.values():
        config = dataclasses.replace(base, width_coefficient=width, depth_coefficient=depth)
        if config.scaled(config.stem_filters) == stem and len(config.blocks) == blocks:
            return config
    raise CheckpointError(
        f"{what}: no EfficientNet B0 to B7 has a stem of {stem} channels and {blocks} blocks"
    )


def _frames(length: int, image_tokens: int, what: str) -> int:
    frames, remainder = divmod(length, image_tokens + ACTION_TOKENS)
    if remainder or not frames:
        raise CheckpointError(
            f"{what}: {length} positions are no multiple of {image_tokens} image tokens and "
            f"{ACTION_TOKENS} action tokens"
        )
    return frames

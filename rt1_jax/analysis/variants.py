"""RT-1 changed in one respect, after the paper's ablations and the lesson's simplified model.

Each variant takes a run's config of architecture "rt1" and changes its model; what it is trained
on and for how long stays. `configs/ablations.py` makes them configs for `train.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from ml_collections import ConfigDict

from rt1_jax.action_values import output_count
from rt1_jax.actions import RT1
from rt1_jax.models.config import RT1Config, TokenLearnerConfig, TransformerConfig
from rt1_jax.models.resnet import ResNetConfig


def vary(config: ConfigDict, name: str) -> ConfigDict:
    """A copy of a run's config with the model changed as the variant says.

    Raises:
      ValueError: an unknown variant, or a config of another architecture.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}: expected one of {sorted(VARIANTS)}")
    if config.architecture != "rt1":
        raise ValueError(f"variant {name!r} is of RT-1, the config is of {config.architecture!r}")
    varied = ConfigDict(config.to_dict())
    model = RT1Config.from_json(config.model.to_dict())
    varied.model = ConfigDict(VARIANTS[name](model).to_json())
    varied.name = config.name if name == "rt1" else f"{config.name}_{name}"
    if name == "no_pretraining":
        varied.backbone_weights = ""
    return varied


def _no_history(model: RT1Config) -> RT1Config:
    return dataclasses.replace(model, frames=1)


def _no_transformer(model: RT1Config) -> RT1Config:
    """The mean of a frame's tokens goes straight to a linear head for each action token.

    Without attention nothing carries one frame to the next, so that this one has no history.
    """
    transformer = dataclasses.replace(model.transformer, layers=0)
    return dataclasses.replace(model, transformer=transformer, readout="mean")


def _continuous(model: RT1Config) -> RT1Config:
    """Regresses actions in place of classifying bins, with BC-Z's losses."""
    return dataclasses.replace(model, decoding="continuous", outputs=output_count(RT1))


def _autoregressive(model: RT1Config) -> RT1Config:
    return dataclasses.replace(model, decoding="autoregressive")


def _smaller(model: RT1Config) -> RT1Config:
    """Half the channels of the backbone, and half the layers of the transformer."""
    tokenizer = model.image_tokenizer
    efficientnet = dataclasses.replace(
        tokenizer.efficientnet, width_coefficient=tokenizer.efficientnet.width_coefficient / 2
    )
    transformer = dataclasses.replace(
        model.transformer, layers=max(1, model.transformer.layers // 2)
    )
    return dataclasses.replace(
        model,
        image_tokenizer=dataclasses.replace(tokenizer, efficientnet=efficientnet),
        transformer=transformer,
    )


def _language(way: Literal["film_end", "token", "none"]) -> Callable[[RT1Config], RT1Config]:
    def change(model: RT1Config) -> RT1Config:
        tokenizer = dataclasses.replace(model.image_tokenizer, language=way)
        return dataclasses.replace(model, image_tokenizer=tokenizer)

    return change


def _lesson(model: RT1Config) -> RT1Config:
    """The lesson's simplified model, in the numbers of the model that it replaces.

    A plain ResNet, one FiLM (m x + a) after it, TokenLearner with a sigmoid mask for each token,
    post-norm layers without mask or positions, the mean of the tokens, a head for each action
    token; one image. For RT-1's full size these are the lesson's own numbers: ResNet-18, 224 x 224
    pixels, 8 layers of width 512 with 8 heads and a feed-forward layer of 2,048 with ReLU. One
    linear layer is more than the lesson has: the one that takes tokens into the transformer.
    """
    tokenizer = model.image_tokenizer
    full_size = min(tokenizer.image_size) >= 224
    resnet = ResNetConfig()
    if not full_size:
        resnet = ResNetConfig(
            stages=(1, 2), filters=32, stem_kernel=5, stem_stride=4, max_pool=False
        )
    width, heads = resnet.features, 8 if full_size else 4
    learner = TokenLearnerConfig(tokens=8, hidden=width // 4, masks="sigmoid")
    return dataclasses.replace(
        model,
        image_tokenizer=dataclasses.replace(
            tokenizer,
            resnet=resnet,
            efficientnet=dataclasses.replace(tokenizer.efficientnet, coordinate_channels=0),
            image_size=(224, 224) if full_size else tokenizer.image_size,
            token_size=width,
            token_learner=learner,
            language="film_end",
            film="plain",
            projection=False,
        ),
        transformer=TransformerConfig(
            layers=model.transformer.layers,
            heads=heads,
            key_dim=width // heads,
            d_model=width,
            feed_forward="relu",
            feed_forward_size=4 * width,
            dropout_rate=model.transformer.dropout_rate,
            normalization="post",
            position_embedding=False,
        ),
        frames=1,
        readout="mean",
    )


VARIANTS: dict[str, Callable[[RT1Config], RT1Config]] = {
    "rt1": lambda model: model,
    "no_history": _no_history,
    "no_transformer": _no_transformer,
    "no_pretraining": lambda model: model,
    "continuous": _continuous,
    "autoregressive": _autoregressive,
    "smaller": _smaller,
    "film_end": _language("film_end"),
    "language_token": _language("token"),
    "no_language": _language("none"),
    "lesson": _lesson,
}
"""Variant -> what it does to the model; "rt1" changes nothing."""

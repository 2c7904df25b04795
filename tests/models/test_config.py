"""Model configs: strict JSON, scaling rules, feature map sizes."""

from __future__ import annotations

import dataclasses
import json

import pytest

from rt1_jax.models import config as configs


@pytest.mark.parametrize(
    "make",
    [
        configs.rt1_config,
        configs.rt1_multirobot_config,
        configs.oxe_rt1_config,
        configs.rt1_x_config,
    ],
)
def test_json_round_trip(make):
    config = make()
    again = configs.RT1Config.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    assert hash(again) == hash(config)


def test_a_config_without_token_learner_survives_json():
    tokenizer = configs.ImageTokenizerConfig(token_learner=None)
    config = configs.RT1Config(image_tokenizer=tokenizer)
    assert configs.RT1Config.from_json(config.to_json()) == config
    assert config.image_tokenizer.tokens == 81


def test_unknown_and_missing_keys_are_named_with_their_place():
    values = configs.rt1_config().to_json()
    values["transformer"]["colour"] = "red"
    with pytest.raises(configs.ConfigError, match=r"RT1Config\.transformer: unknown key 'colour'"):
        configs.RT1Config.from_json(values)
    del values["transformer"]["colour"], values["image_tokenizer"]["efficientnet"]["stages"][1]
    assert configs.RT1Config.from_json(values) != configs.rt1_config()
    del values["image_tokenizer"]["efficientnet"]["stages"][0]["kernel"]
    with pytest.raises(configs.ConfigError, match=r"stages\[0\]: key 'kernel' is missing"):
        configs.RT1Config.from_json(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: configs.EfficientNetConfig(padding="valid"), "padding"),
        (lambda: configs.EfficientNetConfig(coordinate_channels=3), "coordinate_channels"),
        (lambda: configs.EfficientNetConfig(stages=()), "stages"),
        (lambda: configs.TransformerConfig(feed_forward="mlp"), "feed_forward"),
        (lambda: configs.RT1Config(dtype="int8"), "dtype"),
    ],
)
def test_impossible_values_are_refused(make, message):
    with pytest.raises(configs.ConfigError, match=message):
        make()


def test_efficientnet_b3():
    config = configs.EfficientNetConfig()
    blocks = config.blocks
    assert len(blocks) == 26
    assert [config.scaled(n) for n in (32, 1280)] == [40, 1536]
    widths = [24, 24, 32, 32, 32, 48, 48, 48] + [96] * 5 + [136] * 5 + [232] * 6 + [384] * 2
    assert [block.filters_out for block in blocks] == widths
    assert blocks[13].stochastic_depth_rate == pytest.approx(0.1)
    assert not blocks[13].residual
    assert blocks[14].residual


def test_feature_map_sizes():
    keras = configs.EfficientNetConfig()
    same = dataclasses.replace(keras, padding="same")
    assert keras.output_size((300, 300)) == (9, 9)
    assert same.output_size((300, 300)) == (10, 10)
    assert configs.rt1_config().sequence_length == 114
    assert configs.rt1_x_config().sequence_length == 1380

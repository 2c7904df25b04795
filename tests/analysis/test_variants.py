"""The variants of RT-1: that each builds, and changes what it says and nothing else."""

import functools

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import ablations, bc_z
from rt1_jax.analysis.variants import VARIANTS, vary
from rt1_jax.models import registry
from rt1_jax.models.config import RT1Config


@functools.cache
def shapes(which):
    """Shapes of a variant's parameters; nothing is computed."""
    config = ablations.get_config(which)
    model = registry.build(config.architecture, config.model.to_dict())
    height, width = config.model.image_tokenizer.image_size
    frames = config.model.frames
    images = jax.ShapeDtypeStruct((1, frames, height, width, 3), np.uint8)
    embeddings = jax.ShapeDtypeStruct((1, config.model.embedding_size), np.float32)
    told = {}
    if config.model.decoding == "autoregressive":
        told["action_tokens"] = jax.ShapeDtypeStruct((1, frames, 11), np.int32)
    return jax.eval_shape(model.init, jax.random.key(0), images, embeddings, **told)["params"]


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def flat(tree, prefix=""):
    if isinstance(tree, dict):
        return {k: v for key, x in tree.items() for k, v in flat(x, f"{prefix}{key}.").items()}
    return {prefix[:-1]: tree}


def changes(base, variant):
    """Keys of a config whose values differ."""
    one, other = (flat(ablations.get_config(f"{base}/{v}").to_dict()) for v in ("rt1", variant))
    assert one.keys() == other.keys() or variant == "lesson"
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


@pytest.mark.parametrize("base", ["rt1", "tabletop"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_builds_and_survives_json(base, variant):
    config = ablations.get_config(f"{base}/{variant}")
    model = RT1Config.from_json(config.model.to_dict())
    assert model.to_json() == config.model.to_dict()
    assert RT1Config.from_json(model.to_json()) == model
    assert config.name == (base if variant == "rt1" else f"{base}_{variant}")
    assert count(shapes(f"{base}/{variant}")) > 10_000


def test_rt1_itself_is_unchanged():
    assert changes("rt1", "rt1") == set()
    assert count(shapes("rt1/rt1")) == 35_120_544


@pytest.mark.parametrize(
    ("variant", "keys"),
    [
        ("no_history", {"model.frames"}),
        ("no_transformer", {"model.transformer.layers", "model.readout"}),
        ("no_pretraining", set()),
        ("continuous", {"model.decoding", "model.outputs"}),
        ("autoregressive", {"model.decoding"}),
        (
            "smaller",
            {
                "model.image_tokenizer.efficientnet.width_coefficient",
                "model.transformer.layers",
            },
        ),
        ("film_end", {"model.image_tokenizer.language"}),
        ("language_token", {"model.image_tokenizer.language"}),
        ("no_language", {"model.image_tokenizer.language"}),
    ],
)
@pytest.mark.parametrize("base", ["rt1", "tabletop"])
def test_a_variant_changes_one_thing(base, variant, keys):
    assert changes(base, variant) == keys | {"name"}


def test_no_pretraining_drops_the_weights():
    config = ablations.get_config("rt1/rt1")
    config.backbone_weights = "imagenet.npz"
    assert vary(config, "no_pretraining").backbone_weights == ""
    assert vary(config, "no_history").backbone_weights == "imagenet.npz"
    assert config.backbone_weights == "imagenet.npz"  # a copy was changed


def test_parameters_by_hand():
    rt1 = count(shapes("rt1/rt1"))
    sizes = {v: count(shapes(f"rt1/{v}")) for v in ("smaller", "no_language")}
    assert sizes["smaller"] < rt1 / 2
    # FiLM: two dense layers from 512 numbers to the channels, after each of B3's blocks, and one
    # after the last 1 x 1 convolution.
    blocks = {24: 2, 32: 3, 48: 3, 96: 5, 136: 5, 232: 6, 384: 2}
    film = sum(n * 2 * 513 * c for c, n in blocks.items())
    assert rt1 - sizes["no_language"] in (film, film + 2 * 513 * 512, film + 2 * 513 * 1536)


def test_the_lesson_at_full_size_by_hand():
    config = ablations.get_config("rt1/lesson")
    assert (config.model.frames, *config.model.image_tokenizer.image_size) == (1, 224, 224)
    d = 512
    film = 2 * (512 * d + d)  # m and a
    learner = 8 * ((d * 128 + 128) + (128 + 1))  # a mask for each token
    attention = 4 * (d * d + d)
    feed_forward = (d * 2_048 + 2_048) + (2_048 * d + d)
    layer = attention + feed_forward + 2 * 2 * d
    embedding = d * d + d  # of the tokens, before the layers
    heads = 11 * (d * 256 + 256)
    params = shapes("rt1/lesson")
    assert count(params["image_tokenizer"]["resnet"]) == 11_176_512
    assert count(params["image_tokenizer"]) == 11_176_512 + film + learner
    assert count(params["transformer"]) == 8 * layer + embedding
    assert count(params["heads"]) == heads
    expected = 11_176_512 + film + learner + 8 * layer + embedding + heads
    assert count(params) == expected == 39_154_504


def test_an_unknown_variant_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"unknown variant 'no_film': expected one of \['autoreg"):
        ablations.get_config("tabletop/no_film")
    with pytest.raises(ValueError, match="'lesson' is of RT-1, the config is of 'bc_z'"):
        vary(bc_z.get_config("tabletop"), "lesson")


def test_the_config_that_is_varied_stays():
    config = ablations.get_config("tabletop/rt1")
    before = ConfigDict(config.to_dict())
    for name in VARIANTS:
        vary(config, name)
    assert config == before

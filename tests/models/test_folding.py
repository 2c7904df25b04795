"""What is done to a model's variables for inference: the same numbers come out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from rt1_jax.models.batch_norm import fold_batch_norm
from rt1_jax.models.bc_z import BCZ, BCZConfig
from rt1_jax.models.config import TokenLearnerConfig
from rt1_jax.models.film import MODULATION, modulations
from rt1_jax.models.matrix_product import BFLOAT16_OPERANDS, einsum, matrix_product
from rt1_jax.models.resnet import ResNetConfig
from rt1_jax.models.rt1 import RT1

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
EMBEDDINGS = RNG.standard_normal((2, 6)).astype(np.float32)


def models():
    rt1 = small.small_model(embedding_size=6)
    resnet = ResNetConfig((1, 1), filters=8, max_pool=False, film=True)
    coordinates = BCZConfig(
        resnet=resnet, image_size=(16, 16), head_hidden=8, embedding_size=6, coordinate_channels=2
    )
    plain = dataclasses.replace(
        rt1.image_tokenizer,
        language="film_end",
        film="plain",
        resnet=ResNetConfig((1,), filters=16, max_pool=False),
        token_learner=TokenLearnerConfig(tokens=2, hidden=4),
    )
    return {
        "rt1": (RT1(rt1), 1e-3),
        "bc_z": (BCZ(coordinates), 1e-5),
        "resnet": (RT1(dataclasses.replace(rt1, image_tokenizer=plain)), 1e-5),
    }


@pytest.fixture(params=[*models()])
def model(request):
    """A model, its variables with noise on everything, and its normalisation's epsilon."""
    module, epsilon = models()[request.param]
    init = jax.jit(lambda key: module.init(key, IMAGES, EMBEDDINGS, method="encode_frames"))
    rng = np.random.default_rng(1)
    noise = lambda x: np.abs(x + 0.3 * rng.standard_normal(x.shape)).astype(np.float32)
    return module, jax.tree.map(noise, init(jax.random.key(0))), epsilon


def encode(module, variables, embeddings=EMBEDDINGS):
    apply = jax.jit(lambda v, e: module.apply(v, IMAGES, e, method="encode_frames"))
    return np.asarray(apply(variables, embeddings))


def names(tree, prefix=""):
    for name, of in tree.items():
        yield from names(of, f"{prefix}{name}/") if isinstance(of, dict) else (f"{prefix}{name}",)


def test_folded_variables_give_the_same_frames(model):
    module, variables, epsilon = model
    folded = fold_batch_norm(variables, epsilon)
    assert set(folded) == {"params"}
    layers = [name for name in names(folded["params"]) if "bn" in name.split("/")[-2]]
    assert layers
    assert all(name.endswith("/bias") for name in layers)
    want = encode(module, variables)
    np.testing.assert_allclose(encode(module, folded), want, rtol=1e-4, atol=1e-5)
    # The epsilon matters: folding with another one does not go unseen.
    assert np.abs(encode(module, fold_batch_norm(variables, 0.3)) - want).max() > 1e-2


def test_folding_leaves_its_input_alone(model):
    _, variables, epsilon = model
    before = jax.tree.map(np.copy, variables)
    fold_batch_norm(variables, epsilon)
    jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_folded_variables_cannot_be_trained(model):
    module, variables, epsilon = model
    folded = fold_batch_norm(variables, epsilon)
    with pytest.raises(Exception, match=r"scale|mean"):
        module.apply(
            folded, IMAGES, EMBEDDINGS, True, method="encode_frames",
            mutable=["batch_stats"], rngs={"stochastic_depth": jax.random.key(0)},
        )  # fmt: skip


def test_a_normalisation_without_its_convolution_is_named():
    layer = {"scale": np.ones(2), "bias": np.ones(2)}
    stats = {"block": {"odd_bn": {"mean": np.ones(2), "var": np.ones(2)}}}
    with pytest.raises(ValueError, match="block/odd_bn has no convolution"):
        fold_batch_norm({"params": {"block": {"odd_bn": layer}}, "batch_stats": stats}, 1e-3)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_ready_made_modulations_stand_for_the_instruction(model, kind):
    module, variables, _ = model
    made = modulations(variables["params"], kind(EMBEDDINGS))
    given = {**variables, MODULATION: made}
    np.testing.assert_allclose(
        encode(module, given, np.zeros_like(EMBEDDINGS)),
        encode(module, variables),
        rtol=1e-4,
        atol=1e-5,
    )
    assert np.abs(encode(module, variables, -EMBEDDINGS) - encode(module, variables)).max() > 1e-2


def test_bfloat16_operands_are_rounded_and_added_in_float32():
    x, kernel = (RNG.normal(size=s).astype(np.float32) for s in ((5, 300), (300, 7)))
    exact = matrix_product(x, kernel)
    with jax.default_matmul_precision(BFLOAT16_OPERANDS):
        rounded, summed = matrix_product(x, kernel), einsum("rk,ks->rs", x, kernel)
    operands = (a.astype(jnp.bfloat16).astype(np.float64) for a in (x, kernel))
    want = np.matmul(*operands)
    for found in (rounded, summed):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, want, atol=1e-4)
    assert np.abs(rounded - exact).max() > 1e-2

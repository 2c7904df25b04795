"""ResNet-18's arithmetic against a plain NumPy reference, its size, and FiLM in its blocks."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.models.json_config import ConfigError
from rt1_jax.models.resnet import BasicBlock, ResNet, ResNetConfig

SMALL = ResNetConfig(stages=(1, 1), filters=4, stem_kernel=5, stem_stride=2, film=True)


def parameters(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def convolve(x, kernel, stride):
    """Cross-correlation with zero padding of k // 2: PyTorch's Conv2d with its usual padding."""
    size = kernel.shape[0]
    n, height, width, _ = x.shape
    half = size // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    rows, columns = ((length + 2 * half - size) // stride + 1 for length in (height, width))
    out = np.zeros((n, rows, columns, kernel.shape[-1]))
    for r in range(rows):
        for c in range(columns):
            window = padded[:, r * stride : r * stride + size, c * stride : c * stride + size]
            out[:, r, c] = np.einsum("nijc,ijcf->nf", window, kernel)
    return out


def max_pool(x):
    """PyTorch's MaxPool2d(3, 2, padding=1)."""
    n, height, width, channels = x.shape
    padded = np.full((n, height + 2, width + 2, channels), -np.inf)
    padded[:, 1:-1, 1:-1] = x
    rows, columns = (height - 1) // 2 + 1, (width - 1) // 2 + 1
    out = np.zeros((n, rows, columns, channels))
    for r in range(rows):
        for c in range(columns):
            out[:, r, c] = padded[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].max((1, 2))
    return out


def normalize(x, params, stats):
    scaled = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    return scaled * params["scale"] + params["bias"]


def reference_block(x, params, stats, stride, film=None):
    shortcut = x
    if "shortcut_conv" in params:
        kernel = params["shortcut_conv"]["kernel"][None, None]
        shortcut = convolve(x, kernel, stride)
        shortcut = normalize(shortcut, params["shortcut_bn"], stats["shortcut_bn"])
    y = convolve(x, params["conv_1"]["kernel"], stride)
    y = np.maximum(normalize(y, params["bn_1"], stats["bn_1"]), 0)
    y = convolve(y, params["conv_2"]["kernel"], 1)
    y = normalize(y, params["bn_2"], stats["bn_2"])
    if film is not None:
        y = (1 + film[0][:, None, None]) * y + film[1][:, None, None]
    return np.maximum(y + shortcut, 0)


def perturbed(variables, seed=3):
    """Noise on everything, so that no layer is at a special value; variances stay positive."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda v: np.asarray(v) + 0.2 * np.abs(rng.standard_normal(v.shape)).astype(np.float32),
        variables,
    )


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 17, 14, 3)).astype(np.float32)
    return images, rng.standard_normal((2, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def initial(inputs):
    return jax.jit(ResNet(SMALL).init)(jax.random.key(0), *inputs)


def test_resnet18_has_the_reference_size():
    """torchvision's resnet18 has 11,689,512 parameters, of which its classifier 513,000."""
    config = ResNetConfig()
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    embeddings = jax.ShapeDtypeStruct((1, 512), jnp.float32)
    out, variables = jax.eval_shape(
        ResNet(config).init_with_output, jax.random.key(0), images, embeddings
    )
    assert parameters(variables) == 11_689_512 - 513_000
    assert out.shape == (1, 7, 7, 512)
    assert config.output_size((224, 224)) == (7, 7)
    assert config.features == 512


@pytest.mark.parametrize("size", [(224, 224), (200, 199), (64, 33)])
@pytest.mark.parametrize("max_pool", [True, False])
def test_output_size_is_that_of_the_output(size, max_pool):
    config = ResNetConfig(stages=(1, 1, 1), filters=2, max_pool=max_pool)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    embeddings = jax.ShapeDtypeStruct((1, 2), jnp.float32)
    out, _ = jax.eval_shape(ResNet(config).init_with_output, jax.random.key(0), images, embeddings)
    assert out.shape == (1, *config.output_size(size), config.features)


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (3, 1), (3, 2)])
def test_a_block_by_its_definition(channels, stride):
    x = np.random.default_rng(1).standard_normal((2, 7, 6, channels)).astype(np.float32)
    block = BasicBlock(SMALL, 4, stride)
    identity = lambda y: y
    variables = perturbed(jax.jit(lambda key: block.init(key, x, identity))(jax.random.key(0)))
    expected = reference_block(x, variables["params"], variables["batch_stats"], stride)
    out = jax.jit(lambda v: block.apply(v, x, identity))(variables)
    np.testing.assert_allclose(out, expected, atol=2e-5, rtol=1e-5)


def test_the_whole_network_by_its_definition(inputs, initial):
    """Stem, max-pool, blocks, and FiLM between the second normalisation and the addition."""
    images, embeddings = inputs
    variables = perturbed(initial)
    params, stats = variables["params"], variables["batch_stats"]
    x = convolve(images, params["stem_conv"]["kernel"], 2)
    x = max_pool(np.maximum(normalize(x, params["stem_bn"], stats["stem_bn"]), 0))
    for index, (_, stride) in enumerate(SMALL.blocks):
        film = params[f"film_{index:02d}"]
        multiply, add = (
            np.repeat(embeddings @ film[name]["kernel"] + film[name]["bias"], 2, axis=0)
            for name in ("multiply", "add")
        )
        name = f"block_{index:02d}"
        x = reference_block(x, params[name], stats[name], stride, (multiply, add))
    out = jax.jit(ResNet(SMALL).apply)(variables, images, embeddings)
    assert out.shape == (4, *SMALL.output_size((17, 14)), 8)
    np.testing.assert_allclose(out, x, rtol=1e-4, atol=1e-4)


def test_film_starts_at_identity_and_then_matters(inputs, initial):
    images, embeddings = inputs
    apply = jax.jit(ResNet(SMALL).apply)
    np.testing.assert_array_equal(
        apply(initial, images, embeddings), apply(initial, images, embeddings + 1)
    )
    variables = perturbed(initial)
    changed = embeddings.copy()
    changed[1] += 1
    difference = np.abs(
        apply(variables, images, changed) - apply(variables, images, embeddings)
    ).max((1, 2, 3))
    assert difference[:2].max() == 0  # the first instruction's two images
    assert difference[2:].min() > 1e-3


def test_without_film_there_are_no_film_parameters_and_no_instruction(inputs):
    images, embeddings = inputs
    model = ResNet(ResNetConfig(stages=(1,), filters=4))
    variables = perturbed(jax.jit(model.init)(jax.random.key(0), images, embeddings))
    apply = jax.jit(model.apply)
    assert not [name for name in variables["params"] if name.startswith("film")]
    np.testing.assert_array_equal(
        apply(variables, images, embeddings), apply(variables, images, embeddings + 1)
    )


def test_running_statistics_move_as_in_pytorch(inputs, initial):
    images, embeddings = inputs

    @jax.jit
    def train(variables):
        return ResNet(SMALL).apply(
            variables, images, embeddings, train=True, mutable=["batch_stats"]
        )

    _, state = train(initial)
    x = convolve(images, np.asarray(initial["params"]["stem_conv"]["kernel"]), 2)
    stats = state["batch_stats"]["stem_bn"]
    np.testing.assert_allclose(stats["mean"], 0.1 * x.mean((0, 1, 2)), atol=1e-5)
    var = 0.9 + 0.1 * x.reshape(-1, 4).var(0, ddof=1)
    np.testing.assert_allclose(stats["var"], var, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"stages": ()}, "stages"), ({"stages": (2, 0)}, "stages"), ({"stem_kernel": 4}, "odd")],
)
def test_impossible_values_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        ResNetConfig(**fields)


def test_json_round_trip():
    assert ResNetConfig.from_json(json.loads(json.dumps(SMALL.to_json()))) == SMALL

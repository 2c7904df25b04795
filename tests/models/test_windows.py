import exported
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt1_jax.models import registry
from rt1_jax.models.windows import decode_windows, gather_windows


def test_gathering():
    x = jnp.arange(2 * 5).reshape(2, 5)
    np.testing.assert_array_equal(
        gather_windows(x, 3),
        [[0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7], [6, 7, 8], [7, 8, 9]],
    )
    with pytest.raises(ValueError, match="5 steps hold no window of 6"):
        gather_windows(x, 6)


@pytest.mark.parametrize("kind", sorted(exported.configs()))
def test_each_window_as_if_it_were_alone(kind):
    architecture, config = exported.configs()[kind]
    model = registry.build(architecture, config.to_json())
    frames, steps = config.frames, config.frames + 3
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, steps, 16, 16, 3), np.uint8)
    embeddings = rng.normal(size=(2, 6)).astype(np.float32)
    given = {}
    if config.decoding == "autoregressive":
        given["action_tokens"] = jnp.asarray(rng.integers(0, 256, (2, steps, 11), np.int32))
    windows = gather_windows(jnp.asarray(images), frames)
    each = {name: gather_windows(value, frames) for name, value in given.items()}
    repeated = np.repeat(embeddings, 4, axis=0)
    variables = jax.jit(model.init)(jax.random.key(0), windows, repeated, **each)
    want = jax.jit(model.apply)(variables, windows, repeated, **each)
    found = jax.jit(lambda *inputs: model.apply(*inputs, method=decode_windows, **given))(
        variables, images, embeddings
    )
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want, atol=2e-5)

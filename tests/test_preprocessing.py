import jax
import numpy as np
import pytest

from rt1_jax.platforms import traced_for
from rt1_jax.preprocessing import resize_images


@pytest.mark.parametrize("sizes", [((25, 32), (30, 30)), ((40, 30), (18, 64)), ((8, 8), (8, 8))])
def test_a_resize_by_products_is_the_one_by_gathering(sizes):
    """What TPUs compute, on float32 pictures with every axis before them."""
    size, target = sizes
    images = np.random.default_rng(0).random((2, 3, *size, 3), np.float32)
    want = resize_images(images, target)
    with traced_for("tpu"):
        found = jax.jit(lambda x: resize_images(x, target))(images)
    assert found.shape == (2, 3, *target, 3)
    np.testing.assert_allclose(found, want, atol=2e-6)

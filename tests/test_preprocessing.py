import jax
import numpy as np
import pytest

from rt1_jax.platforms import traced_for
from rt1_jax.preprocessing import resize_images, resize_with_pad


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


@pytest.mark.parametrize(
    ("sizes", "target"),
    [
        ((480, 640), (256, 320)),  # bars above and below
        ((150, 200), (256, 320)),
        ((64, 48), (256, 320)),  # left and right
        ((333, 511), (256, 320)),  # nothing divides
        ((256, 320), (256, 320)),
        ((97, 101), (31, 77)),
    ],
)
def test_a_frame_between_bars_is_that_of_open_x(sizes, target):
    """`tf.image.resize_with_pad` and a cast, as the pipeline of RT-1-X has it."""
    tf = pytest.importorskip("tensorflow")
    images = np.random.default_rng(1).integers(0, 256, (2, *sizes, 3), np.uint8)
    want = tf.cast(tf.image.resize_with_pad(images, *target), tf.uint8).numpy()
    found = np.asarray(resize_with_pad(images, target))
    assert found.dtype == np.uint8
    # Rounded down, a number that is whole but for its last digit may be one less.
    difference = found.astype(int) - want
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 1e-3
    np.testing.assert_array_equal(found.any((0, 3)), want.any((0, 3)))


def test_only_bytes_are_put_between_bars():
    with pytest.raises(ValueError, match="float32 .*expected uint8"):
        resize_with_pad(np.zeros((4, 4, 3), np.float32), (8, 8))

import jax
import numpy as np

from rt1_jax.data.augmentation import random_shift


def test_no_shift_changes_nothing():
    images = np.arange(2 * 3 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 3, 4, 5, 3)
    np.testing.assert_array_equal(random_shift(jax.random.key(0), images, (0, 0)), images)


def test_a_window_moves_as_one_and_windows_apart():
    images = np.zeros((64, 2, 9, 9, 3), np.uint8)
    images[:, :, 4, 4] = 255
    moved = np.asarray(random_shift(jax.random.key(1), images, (2, 3)))
    assert moved.shape == images.shape
    assert moved.dtype == np.uint8
    batch, time, y, x, _ = np.nonzero(moved)
    assert len(batch) == 64 * 2 * 3  # every dot is still inside, whole
    offsets = np.stack([y, x], -1).reshape(64, 2, 3, 2)
    assert (offsets == offsets[:, :1, :1]).all()  # one offset a window
    seen = offsets[:, 0, 0] - 4
    assert set(seen[:, 0]) == {-2, -1, 0, 1, 2}
    assert set(seen[:, 1]) == {-3, -2, -1, 0, 1, 2, 3}

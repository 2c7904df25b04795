"""Boxes of frames between bars, against the sizes that TensorFlow's function gives."""

from __future__ import annotations

import numpy as np
import pytest

from rt1_jax.data.resize import resize_frame
from rt1_jax.letterbox import letterbox


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (240, 320, 8, 0)),
        (256, 320, (256, 320, 0, 0)),
        (64, 64, (256, 256, 0, 32)),
        (1, 5000, (1, 320, 127, 0)),  # never no pixel at all
    ],
)
def test_boxes(height: int, width: int, expected: tuple[int, int, int, int]) -> None:
    assert letterbox(height, width, (256, 320)) == expected


def test_every_box_is_that_of_open_x_and_inside() -> None:
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    for _ in range(40):
        height, width = (int(side) for side in rng.integers(20, 700, 2))
        size = (int(rng.integers(20, 300)), int(rng.integers(20, 300)))
        inner_height, inner_width, top, left = letterbox(height, width, size)
        white = np.full((height, width, 1), 255, np.uint8)
        rows, columns = np.nonzero(tf.image.resize_with_pad(white, *size).numpy()[..., 0] > 200)
        assert (rows.min(), columns.min()) == (top, left), (height, width, size)
        assert (rows.max() + 1, columns.max() + 1) == (top + inner_height, left + inner_width)


def test_an_imported_frame_has_the_same_bars() -> None:
    frame = np.full((333, 511, 3), 255, np.uint8)
    height, width, top, left = letterbox(333, 511, (256, 320))
    rows, columns = np.nonzero(resize_frame(frame, (256, 320), "pad")[..., 0])
    assert (rows.min(), rows.max() + 1) == (top, top + height)
    assert (columns.min(), columns.max() + 1) == (left, left + width)

"""Measures of token maps on maps whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt1_jax.analysis import map_measures as measures

UNIFORM = np.full(4, 0.25)
POINT = np.asarray([0.0, 0.0, 1.0, 0.0])
HALF = np.asarray([0.5, 0.5, 0.0, 0.0])


def some_maps(tokens: int = 3) -> st.SearchStrategy[np.ndarray]:
    """Maps over 12 positions, some of them zero."""
    weights = hnp.arrays(np.float64, (tokens, 12), elements=st.floats(0, 1, width=32))
    return weights.map(lambda w: (w + (w.sum(-1, keepdims=True) == 0)) / (
        w + (w.sum(-1, keepdims=True) == 0)
    ).sum(-1, keepdims=True))  # fmt: skip


def test_entropy() -> None:
    found = measures.entropy(np.stack([UNIFORM, POINT, HALF]))
    np.testing.assert_allclose(found, [np.log(4), 0, np.log(2)])
    np.testing.assert_allclose(measures.relative_entropy(HALF), 0.5)


def test_overlap_and_cosine() -> None:
    maps = np.stack([UNIFORM, POINT, HALF])
    np.testing.assert_allclose(measures.overlap(maps), [[1, 0.25, 0.5], [0.25, 1, 0], [0.5, 0, 1]])
    root = np.sqrt(0.5)
    np.testing.assert_allclose(
        measures.cosine(maps), [[1, 0.5, root], [0.5, 1, 0], [root, 0, 1]], atol=1e-12
    )
    assert measures.pairs_mean(measures.overlap(maps)) == pytest.approx(0.25)
    assert np.isnan(measures.pairs_mean(np.ones((1, 1))))


def test_total_variation_and_centre() -> None:
    assert measures.total_variation(POINT, HALF) == 1
    assert measures.total_variation(UNIFORM, HALF) == 0.5
    centres = measures.centre_of_mass(np.stack([UNIFORM, POINT, HALF]), (2, 2), (64, 80))
    np.testing.assert_allclose(centres, [[32, 40], [48, 20], [16, 40]])


def test_disc() -> None:
    whole = measures.disc((32, 40), 1000, (2, 2), (64, 80))
    np.testing.assert_allclose(whole, 1)
    # A circle in the middle of one cell of 32 x 32 pixels.
    one = measures.disc((16, 48), 8, (2, 2), (64, 64))
    np.testing.assert_allclose(one, [0, np.pi * 64 / 1024, 0, 0], atol=0.01)


def test_through_maps() -> None:
    maps = np.stack([UNIFORM, POINT])
    np.testing.assert_allclose(measures.through_maps(np.asarray([0.4, 0.2]), maps), [
        0.1, 0.1, 0.3, 0.1,
    ])  # fmt: skip
    np.testing.assert_allclose(measures.through_maps(HALF, None), HALF)


def test_upsampled_map_keeps_its_level() -> None:
    drawn = measures.upsample(UNIFORM, (2, 2), (6, 10))
    assert drawn.shape == (6, 10)
    np.testing.assert_allclose(drawn, 0.25)
    assert measures.upsample(POINT, (2, 2), (8, 8))[-1, 0] == 1  # the lower left corner


@pytest.mark.parametrize(
    ("positions", "size", "grid"),
    [
        (81, (300, 300), (9, 9)),
        (64, (64, 64), (8, 8)),
        (80, (256, 320), (8, 10)),
        (7, (20, 90), (1, 7)),
    ],
)
def test_grid(positions: int, size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert measures.grid_of(positions, size) == grid


@settings(max_examples=50, deadline=None)
@given(some_maps(), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_bounds(maps: np.ndarray, attention: list[float]) -> None:
    nats = measures.entropy(maps)
    assert (nats >= -1e-12).all()
    assert (nats <= np.log(12) + 1e-9).all()
    for pairs in (measures.overlap(maps), measures.cosine(maps)):
        assert (pairs >= 0).all()
        assert (pairs <= 1 + 1e-9).all()
        np.testing.assert_allclose(np.diag(pairs), 1)
        np.testing.assert_allclose(pairs, pairs.T)
    # What two maps do not share is what would have to move.
    moved = measures.total_variation(maps[0], maps[1])
    assert moved == pytest.approx(1 - measures.overlap(maps)[0, 1], abs=1e-9)
    pushed = measures.through_maps(np.asarray(attention), maps)
    assert pushed.sum() == pytest.approx(sum(attention))
    centre = measures.centre_of_mass(maps, (3, 4), (30, 80))
    assert (centre - (5, 10) >= -1e-9).all()
    assert (centre - (25, 70) <= 1e-9).all()

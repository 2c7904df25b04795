"""Pad-and-crop and colour jitter: hand-checked numbers, and what holds of any picture."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt1_jax.data.augmentation import Augmentation, augment, augment_samples, jitter_colours

ALL = Augmentation(
    max_shift=(2, 3), brightness=0.2, contrast=(0.7, 1.3), saturation=(0.5, 1.5), hue=0.1
)
PER_FRAME = Augmentation(
    max_shift=(2, 3), per_frame=True, brightness=0.2, contrast=(0.7, 1.3), hue=0.1
)

SHIFTS = [(2, -3), (-2, -2), (-2, 1), (-1, 0), (2, 3), (-3, 0)]

jitted = jax.jit(augment, static_argnums=2)
jitted_samples = jax.jit(augment_samples, static_argnums=2)
jitted_colours = jax.jit(jitter_colours, static_argnums=2)


def pictures(seed: int, batch: int = 4, time: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, time, 9, 11, 3), np.uint8)


def jitter(window, **changes):
    window = np.asarray(window, np.uint8).reshape(1, 1, -1, 3)
    return np.asarray(jitted_colours(jax.random.key(0), window, Augmentation(**changes)))[0, 0]


# ---- The shift.


def test_with_everything_off_the_very_input_comes_back():
    images = pictures(0)
    assert augment(jax.random.key(0), images, Augmentation()) is images
    assert augment(jax.random.key(0), images, Augmentation(per_frame=True)) is images


def test_a_window_moves_as_one_and_windows_apart():
    images = np.zeros((64, 2, 9, 9, 3), np.uint8)
    images[:, :, 4, 4] = 255
    moved = np.asarray(jitted(jax.random.key(1), images, Augmentation(max_shift=(2, 3))))
    assert moved.shape == images.shape
    assert moved.dtype == np.uint8
    batch, _, y, x, _ = np.nonzero(moved)
    assert len(batch) == 64 * 2 * 3  # every dot is still inside, whole
    offsets = np.stack([y, x], -1).reshape(64, 2, 3, 2)
    assert (offsets == offsets[:, :1, :1]).all()  # one offset a window
    seen = offsets[:, 0, 0] - 4
    assert set(seen[:, 0]) == {-2, -1, 0, 1, 2}
    assert set(seen[:, 1]) == {-3, -2, -1, 0, 1, 2, 3}


def test_the_shifts_of_a_seed_stay():
    """Read off before there was anything but shifts: training with a seed must not change."""
    images = np.zeros((6, 1, 9, 9, 3), np.uint8)
    images[:, :, 4, 4] = 255
    for augmentation in (Augmentation(max_shift=(3, 3)), Augmentation((3, 3), saturation=(0, 2))):
        moved = np.asarray(jitted(jax.random.key(0), images, augmentation))
        _, _, y, x, _ = np.nonzero(moved)
        assert [*zip(y[::3] - 4, x[::3] - 4, strict=True)] == SHIFTS


def test_with_frames_apart_every_frame_draws_its_own():
    images = np.zeros((32, 3, 9, 9, 3), np.uint8)
    images[:, :, 4, 4] = 255
    moved = np.asarray(jitted(jax.random.key(1), images, Augmentation((2, 2), per_frame=True)))
    _, _, y, x, _ = np.nonzero(moved)
    offsets = np.stack([y, x], -1).reshape(32, 3, 3, 2)[:, :, 0]
    assert (offsets != offsets[:, :1]).any(axis=(1, 2)).mean() > 0.9
    assert {*offsets[..., 0].flat} == {2, 3, 4, 5, 6}


# ---- Colours. A range of one number makes the draw known.


def test_saturation_by_hand():
    assert jitter([[200, 100, 0]], saturation=(0, 0)).tolist() == [[100, 100, 100]]
    assert jitter([[200, 100, 0]], saturation=(0.5, 0.5)).tolist() == [[150, 100, 50]]
    assert jitter([[150, 100, 50]], saturation=(2, 2)).tolist() == [[200, 100, 0]]


def test_contrast_by_hand():
    # The mean of all six numbers is 100.
    assert jitter([[50] * 3, [150] * 3], contrast=(0.5, 0.5)).tolist() == [[75] * 3, [125] * 3]
    assert jitter([[50] * 3, [150] * 3], contrast=(3, 3)).tolist() == [[0] * 3, [250] * 3]
    assert jitter([[0, 100, 200]], contrast=(0, 0)).tolist() == [[100] * 3]


def uniform_of(key):
    """b, c, s, h as shares of their ranges."""
    return np.asarray(jax.random.uniform(key, (4,)))


@pytest.mark.parametrize("seed", range(3))
def test_brightness_by_hand(seed):
    key = jax.random.key(seed)
    window = np.array([0, 10, 128, 250] * 3, np.uint8).reshape(1, 2, 2, 3)
    found = jitted_colours(key, window, Augmentation(brightness=0.25))
    added = 255 * 0.25 * (2 * uniform_of(key)[0] - 1)
    assert abs(added) > 1
    expected = np.clip(np.round(window.astype(np.float64) + added), 0, 255)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(3))
def test_hue_by_hand(seed):
    key = jax.random.key(seed)
    colour = np.array([180.0, 90.0, 60.0])
    found = jitted_colours(key, colour.astype(np.uint8).reshape(1, 1, 1, 3), Augmentation(hue=0.5))
    angle = 2 * np.pi * 0.5 * (2 * uniform_of(key)[3] - 1)
    # Rodrigues' formula about the grey axis.
    axis = np.full(3, 1 / np.sqrt(3))
    turned = (
        colour * np.cos(angle)
        + np.cross(axis, colour) * np.sin(angle)
        + axis * (axis @ colour) * (1 - np.cos(angle))
    )
    np.testing.assert_allclose(np.ravel(found), np.clip(turned, 0, 255), atol=0.51)


def test_a_third_of_a_turn_takes_red_to_green():
    from rt1_jax.data.augmentation import _turn

    np.testing.assert_allclose(_turn(1 / 3) @ np.array([1.0, 0, 0]), [0, 1, 0], atol=1e-6)


def test_all_at_once_is_the_documented_formula():
    key, window = jax.random.key(5), pictures(1)[0]
    found = np.asarray(jitted_colours(key, window, ALL))
    low = np.array([-0.2, 0.7, 0.5, -0.1])
    high = np.array([0.2, 1.3, 1.5, 0.1])
    b, c, s, h = low + (high - low) * uniform_of(key)
    x = window.astype(np.float64)
    g, m = x.mean(-1, keepdims=True), x.mean()
    axis, chroma = np.full(3, 1 / np.sqrt(3)), x - g
    turned = chroma * np.cos(2 * np.pi * h) + np.cross(axis, chroma) * np.sin(2 * np.pi * h)
    expected = c * (g + s * turned - m) + m + 255 * b
    np.testing.assert_allclose(found, np.clip(expected, 0, 255), atol=0.51)


def test_one_map_for_all_frames_of_a_window_unless_apart():
    frame = pictures(2, 5, 1)
    images = np.repeat(frame, 3, axis=1)
    together = np.asarray(jitted(jax.random.key(3), images, ALL))
    np.testing.assert_array_equal(together, together[:, :1].repeat(3, axis=1))
    apart = np.asarray(jitted(jax.random.key(3), images, PER_FRAME))
    assert (apart[:, 0] != apart[:, 1]).any()
    # Windows always differ.
    assert not np.array_equal(*np.asarray(jitted(jax.random.key(3), images[[0, 0]], ALL)))


def test_what_comes_in_at_the_edges_is_black():
    images = np.full((20, 2, 9, 11, 3), 128, np.uint8)
    found = np.asarray(jitted(jax.random.key(0), images, Augmentation((3, 3), brightness=0.3)))
    values = [{*window.flat} for window in found]
    assert any(0 in seen for seen in values)
    assert all(len(seen - {0}) == 1 for seen in values)


def test_the_mean_is_of_what_is_seen():
    window = np.array([50, 150, 0, 0], np.uint8).reshape(1, 2, 2, 1).repeat(3, -1)
    seen = np.array([1, 1, 0, 0], bool).reshape(1, 2, 2, 1)
    found = jitter_colours(jax.random.key(0), window, Augmentation(contrast=(0.5, 0.5)), seen)
    assert np.asarray(found)[..., 0].ravel().tolist() == [75, 125, 0, 0]


# ---- What holds of any pictures.


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31 - 1), st.sampled_from([ALL, PER_FRAME]))
def test_deterministic_and_of_one_type_and_shape(seed, augmentation):
    images, key = pictures(seed), jax.random.key(seed)
    found = jitted(key, images, augmentation)
    assert (found.dtype, found.shape) == (np.uint8, images.shape)
    np.testing.assert_array_equal(found, jitted(key, images, augmentation))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31 - 1), st.sampled_from([ALL, PER_FRAME]))
def test_a_sample_depends_on_its_own_key_alone(seed, augmentation):
    images, keys = pictures(seed), jax.random.split(jax.random.key(seed), 4)
    whole = jitted(jax.random.key(seed), images, augmentation)
    parts = [jitted_samples(keys[i : i + 2], images[i : i + 2], augmentation) for i in (0, 2)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31 - 1))
def test_neutral_amounts_keep_every_number(seed):
    window = pictures(seed)[0]
    found = jitted_colours(jax.random.key(seed), window, Augmentation())
    np.testing.assert_array_equal(found, window)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31 - 1))
def test_colours_move_about_the_grey_axis(seed):
    """Saturation and hue keep red + green + blue where nothing is clipped."""
    window = np.random.default_rng(seed).integers(100, 150, (2, 3, 3, 3)).astype(np.uint8)
    found = jitted_colours(jax.random.key(seed), window, Augmentation(saturation=(0, 1.5), hue=0.5))
    moved = np.asarray(found, int).sum(-1) - window.astype(int).sum(-1)
    assert np.abs(moved).max() <= 1  # three roundings


# ---- Configs.


def test_from_a_config():
    data = {"max_shift": [2, 3], "augment_per_frame": True, "jitter": {"hue": 0.1}}
    assert Augmentation.from_config(data) == Augmentation((2, 3), per_frame=True, hue=0.1)
    assert Augmentation.from_config({}) == Augmentation()
    assert not Augmentation.from_config({"max_shift": (2, 3)}).jitters


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_shift": (-1, 2)}, r"max_shift is \(-1, 2\)"),
        ({"max_shift": (1.5, 2)}, r"max_shift is \(1.5, 2\)"),
        ({"max_shift": (1,)}, r"max_shift is \(1,\), expected two numbers"),
        ({"brightness": -0.1}, "brightness is -0.1, expected 0 to 1"),
        ({"hue": 0.6}, "hue is 0.6, expected 0 to 0.5"),
        ({"contrast": (1.2, 0.8)}, r"contrast is \(1.2, 0.8\), expected 0 <= low <= high"),
        ({"saturation": (-1, 1)}, r"saturation is \(-1, 1\)"),
    ],
)
def test_what_cannot_be_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        Augmentation(**changes)


def test_an_unknown_jitter_is_named():
    with pytest.raises(ValueError, match=r"data.jitter: unknown key 'gamma'; known are brightness"):
        Augmentation.from_config({"jitter": {"gamma": 1}})

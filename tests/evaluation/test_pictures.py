from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scripted_world import make_action

from rt1_jax.actions import TABLETOP
from rt1_jax.evaluation.film import Film
from rt1_jax.evaluation.pictures import animation, annotate, bar_legend, data_uri, strip


def film(steps: int = 9) -> Film:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (16, 20, 3), np.uint8) for _ in range(steps)]
    actions = [make_action(1, terminate=i == steps - 1) for i in range(steps)]
    return Film(images, actions, [False] * (steps - 1) + [True])


def test_animation_plays_every_step_at_the_control_rate() -> None:
    with Image.open(io.BytesIO(animation(film(9), TABLETOP, frame_rate=3.0))) as picture:
        assert (picture.format, picture.n_frames, picture.width) == ("WEBP", 9, 256)
        durations = []
        for i in range(9):
            picture.seek(i)
            picture.load()
            durations.append(picture.info["duration"])
    assert durations == [333] * 8 + [1500]


def test_strip_shows_six_or_fewer() -> None:
    with Image.open(io.BytesIO(strip(film(9), TABLETOP))) as six:
        assert six.width == 6 * 170 + 5 * 4
    with Image.open(io.BytesIO(strip(film(2), TABLETOP))) as two:
        assert two.width == 2 * 170 + 4


def test_frame_is_shown_unchanged_but_larger() -> None:
    one = film(1)
    picture = np.asarray(annotate(one, 0, TABLETOP, width=40, caption=""))
    np.testing.assert_array_equal(picture[:32:2, :40:2], one.images[0])
    np.testing.assert_array_equal(picture[1:32:2, 1:40:2], one.images[0])


def test_bars_follow_the_action() -> None:
    pictures = []
    for direction in (-1, 0, 1):
        still = Film([np.zeros((64, 64, 3), np.uint8)], [make_action(direction, False)], [False])
        pictures.append(np.asarray(annotate(still, 0, TABLETOP, 256, ""), np.int64))
    down, none, up = pictures
    # What is drawn for +x lies above what is drawn for -x, in the same columns.
    rows_up, columns_up = np.nonzero(np.abs(up - none).sum(-1))
    rows_down, columns_down = np.nonzero(np.abs(down - none).sum(-1))
    assert rows_up.max() < rows_down.min()
    assert set(columns_up) == set(columns_down)
    assert columns_up.max() < 40  # world_vector x is the first bar


def test_words_are_drawn_for_terminate_and_goal() -> None:
    one = film(3)
    height = annotate(one, 0, TABLETOP, 256, "").height
    last_row = slice(height - 18, height)
    plain = np.asarray(annotate(one, 0, TABLETOP, 256, ""))[last_row]
    said = np.asarray(annotate(one, 2, TABLETOP, 256, ""))[last_row]
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) == 1
    colours = {tuple(c) for c in said.reshape(-1, 3)}
    assert {(255, 196, 84), (120, 225, 150)} <= colours


def test_legend_and_uri() -> None:
    legend = bar_legend(TABLETOP)
    assert "x y z = world vector (±0.05 m)" in legend
    assert "terminate" not in legend
    assert data_uri(b"\x00\x01") == "data:image/webp;base64,AAE="

"""Projected places against what is rendered."""

from __future__ import annotations

import numpy as np
import pytest

from rt1_jax import envs
from rt1_jax.envs.camera import to_pixels
from rt1_jax.envs.scene import CAMERA_AIM, CAMERA_HALF_WIDTH


def test_the_aim_is_in_the_middle() -> None:
    np.testing.assert_allclose(to_pixels(np.asarray(CAMERA_AIM), (64, 80)), [32, 40], atol=1e-9)
    left = np.add(CAMERA_AIM, (0, CAMERA_HALF_WIDTH, 0))  # y points left
    np.testing.assert_allclose(to_pixels(left, (64, 80)), [32, 8], atol=1e-9)
    assert to_pixels(np.zeros((4, 5, 3)), (64, 64)).shape == (4, 5, 2)


@pytest.mark.parametrize("image_size", [(96, 96), (80, 120)])
def test_objects_are_drawn_where_they_are_projected(image_size: tuple[int, int]) -> None:
    env = envs.make("tabletop", skills=("pick",), image_size=image_size)
    try:
        for seed in range(12):
            image = env.reset(seed=seed)[0]["image"].astype(int)
            for kind, position in zip(env.objects, env.scene_state.positions, strict=True):
                if (kind.colour, kind.shape) not in (("blue", "ball"), ("blue", "block")):
                    continue
                place = to_pixels(env.scene_state.in_base(position), image_size)
                blue = image[..., 2] - image[..., :2].max(-1) > 60
                rows, columns = np.nonzero(blue)
                drawn = np.asarray([rows.mean() + 0.5, columns.mean() + 0.5])
                if blue.sum() > 40:  # not behind the hand
                    assert np.linalg.norm(drawn - place) < 4
                    return
        raise AssertionError("no scene with a blue object in sight")
    finally:
        env.close()

"""Frames decoded one by one and together."""

import io

import numpy as np
import pytest
from PIL import Image

from rt1_jax.data.episode import decode_image, decode_images, encode_image


def picture(seed, size=(24, 32)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def grey_jpeg(seed, size=(24, 32)):
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, size)[..., 0]).save(buffer, "jpeg")
    return buffer.getvalue()


def cmyk_jpeg(seed):
    buffer = io.BytesIO()
    Image.fromarray(picture(seed)).convert("CMYK").save(buffer, "jpeg")
    return buffer.getvalue()


def test_together_they_are_the_same_numbers():
    frames = [encode_image(picture(seed), "jpeg") for seed in range(3)]
    frames += [encode_image(picture(3), "png"), grey_jpeg(4), cmyk_jpeg(5)]
    found = decode_images(frames)
    assert (found.shape, found.dtype) == ((6, 24, 32, 3), np.uint8)
    for image, frame in zip(found, frames, strict=True):
        np.testing.assert_array_equal(image, decode_image(frame))
    np.testing.assert_array_equal(found[3], picture(3))


@pytest.mark.parametrize("size", [(24, 16), (48, 32), (12, 64), (8, 8)])
@pytest.mark.parametrize("image_format", ["jpeg", "png"])
def test_frames_of_two_sizes(size, image_format):
    frames = [encode_image(picture(0), image_format), encode_image(picture(1, size), image_format)]
    with pytest.raises(ValueError, match=rf"\[{size[0]}, {size[1]}\] pixels among .*\[24, 32\]"):
        decode_images(frames)


def test_a_damaged_frame_among_whole_ones():
    frames = [encode_image(picture(seed), "jpeg") for seed in range(2)]
    with pytest.raises((OSError, ValueError)):
        decode_images([frames[0], frames[1][:200]])

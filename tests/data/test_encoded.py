import io

import numpy as np
import pytest
import small
from PIL import Image

from rt1_jax.actions import TABLETOP
from rt1_jax.data.encoded import EncodedEpisode, HeaderReader, image_header
from rt1_jax.data.episode import EpisodeError, encode_image
from rt1_jax.data.finish import finish_dataset
from rt1_jax.data.shards import EpisodeWriter
from rt1_jax.data.store import StepStore


def encoded(episode, image_format):
    frames = [encode_image(image, image_format) for image in episode.images]
    return EncodedEpisode(frames, episode.actions, episode.instruction, {"seed": 1})


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_encoded_frames_are_kept_as_they_are(tmp_path, image_format):
    episode = small.make_episode(3, 5)
    given = encoded(episode, image_format)
    path = tmp_path / "shard-00000.array_record"
    writer = EpisodeWriter(path, image_format, TABLETOP)
    writer.add(given)
    writer.add(episode)
    writer.close()
    finish_dataset(
        tmp_path,
        [path],
        action_spec=TABLETOP,
        frame_rate=3.0,
        source={},
        encoder=small.HashEncoder(),
    )
    store = StepStore.open(tmp_path)
    # Encoding a frame twice gives the same bytes, so both episodes hold the same pictures.
    np.testing.assert_array_equal(store.read(0).images, store.read(1).images)
    assert store.metadata()[0] == {"seed": 1}
    np.testing.assert_array_equal(
        store.read(0).actions["world_vector"], episode.actions["world_vector"]
    )


@pytest.mark.parametrize(
    "save",
    [
        {"format": "png"},
        {"format": "jpeg"},
        {"format": "jpeg", "progressive": True, "exif": b"Exif\0\0" + 500 * b"x"},
    ],
)
def test_headers(save):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((37, 52, 3), np.uint8)).save(buffer, **save)
    assert image_header(buffer.getvalue()) == (save["format"], 37, 52)


def test_headers_of_pictures_that_begin_alike():
    """Each is what it would be alone, in whatever order they come."""

    def encoded(height, width, image_format, quality=75):
        buffer = io.BytesIO()
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        options = {"quality": quality} if image_format == "jpeg" else {}
        Image.fromarray(image).save(buffer, image_format, **options)
        return buffer.getvalue()

    pictures = [
        encoded(37, 52, "jpeg"),
        encoded(37, 52, "jpeg"),
        encoded(52, 37, "jpeg"),  # the same but for the size
        encoded(37, 53, "jpeg", quality=90),
        encoded(37, 52, "png"),
        encoded(37, 51, "png"),
        encoded(37, 52, "jpeg"),
    ]
    reader = HeaderReader()
    assert [reader(data) for data in pictures] == [image_header(data) for data in pictures]
    with pytest.raises(EpisodeError, match="neither PNG nor JPEG"):
        reader(pictures[-1][:100])
    assert reader(pictures[0]) == ("jpeg", 37, 52)


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a" + bytes(40), b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_picture(data):
    with pytest.raises(EpisodeError, match="neither PNG nor JPEG"):
        image_header(data)


class TestBadEpisodes:
    @pytest.fixture
    def writer(self, tmp_path):
        writer = EpisodeWriter(tmp_path / "shard-00000.array_record", "jpeg", TABLETOP)
        yield writer
        writer.abort()

    def test_another_format(self, writer):
        with pytest.raises(EpisodeError, match="expected all 'jpeg'"):
            writer.add(encoded(small.make_episode(0, 3), "png"))

    def test_two_sizes(self, writer):
        episode = encoded(small.make_episode(0, 3), "jpeg")
        episode.frames[1] = encode_image(np.zeros((8, 8, 3), np.uint8), "jpeg")
        with pytest.raises(EpisodeError, match="one size"):
            writer.add(episode)

    def test_no_frames(self, writer):
        with pytest.raises(EpisodeError, match="no frames"):
            writer.add(EncodedEpisode([], {}, "pick"))

    def test_too_few_actions(self, writer):
        episode = encoded(small.make_episode(0, 3), "jpeg")
        episode.frames.append(episode.frames[0])
        with pytest.raises(EpisodeError, match="actions have shapes"):
            writer.add(episode)

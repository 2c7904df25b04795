import numpy as np
import pytest
import rlds

from rt1_jax.data import oxe
from rt1_jax.data.rlds.convert import EpisodeConverter, Frames, OddEpisodeError
from rt1_jax.data.rlds.source import RLDSSource
from rt1_jax.data.rlds.tfrecords import read_records

NAME = "fractal20220817_data"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return RLDSSource.open(rlds.write_rlds(tmp_path_factory.mktemp("rlds"), NAME, 1, steps=3))


@pytest.fixture
def record(source):
    """The features of an episode, as TFDS wrote them."""
    from tensorflow_datasets.proto import tf_example_pb2

    (found,) = read_records(source.files[0])
    return tf_example_pb2.Example.FromString(found.data)


def convert(source, record):
    converter = EpisodeConverter(oxe.get(NAME), source, "physical", Frames("jpeg", (256, 320)))
    return converter(record.SerializeToString())


def test_an_episode(source, record):
    episode, embedding, physical = convert(source, record)
    assert len(episode) == 3
    assert embedding.shape == (512,)
    np.testing.assert_array_equal(episode.actions["world_vector"], physical["world_vector"])


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("observation/natural_language_embedding", "natural_language_embedding is empty"),
        ("action/world_vector", "3 frames, but 0 steps of action/world_vector"),
    ],
)
def test_a_feature_without_values_is_damage(source, record, key, says):
    record.features.feature[f"steps/{key}"].float_list.ClearField("value")
    with pytest.raises(OddEpisodeError, match=f"wrong record: .*{says}"):
        convert(source, record)

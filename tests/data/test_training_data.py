import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import small

from rt1_jax.actions import RT1
from rt1_jax.data.finish import finish_dataset
from rt1_jax.data.shards import DatasetError, EpisodeWriter
from rt1_jax.data.training_data import open_training_data
from rt1_jax.language import EncoderIdentity, EncoderMismatchError
from rt1_jax.training.config_keys import data_with_newer

LOADER = {"workers": 0, "threads": 1, "cache_bytes": 0}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return [
        small.make_dataset(root / "a"),
        small.make_dataset(root / "b", lengths=(9, 3, 8, 3, 3)),
        small.make_dataset(root / "large", size=(32, 40)),
    ]


def options(directory, **changes):
    data = small.small_config(directory).data.to_dict()
    return data_with_newer({**data, "travel_repeats": 1, "embedding_components": 0, **changes})


def opened(data, **changes):
    return open_training_data(
        data, LOADER, **{"frames": 3, "embedding_size": 512, "batch_size": 4, "seed": 1, **changes}
    )


def test_one_dataset(directories):
    data = opened(options(directories[0]))
    assert (data.episodes, data.image_size, data.frame_rate) == (5, (16, 20), 3.0)
    assert list(data.validation) == ["a"]
    assert data.statistics is None


def test_a_mixture(directories):
    mixture = [(str(directories[0]), 3.0), (str(directories[1]), 1.0)]
    data = opened(options(None, mixture=mixture))
    assert data.episodes == 5 + 4
    assert sorted(data.validation) == ["a", "b"]
    assert [part["weight"] for part in data.source] == [3.0, 1.0]
    assert next(iter(data.stream(0)))["images"].shape == (4, 3, 16, 20, 3)


def test_a_mixture_of_the_same_names(directories, tmp_path):
    """Each one's held-out windows are evaluated."""
    paths = [shutil.copytree(directories[i], tmp_path / str(i) / "same") for i in range(2)]
    data = opened(options(None, mixture=[(str(path), 1.0) for path in paths]))
    assert sorted(data.validation) == sorted(map(str, paths))


def test_an_image_size_of_one_number(directories):
    with pytest.raises(DatasetError, match=r"data.image_size is \(128,\), expected \(height"):
        opened(options(directories[0], image_size=(128,)))


def test_statistics_are_of_all_sentences(directories):
    mixture = [(str(path), 1.0) for path in directories[:2]]
    data = opened(options(None, mixture=mixture, embedding_components=1), embedding_size=1)
    assert data.statistics is not None
    assert data.statistics.apply(np.zeros((1, 512), np.float32)).shape == (1, 1)


def test_a_position_is_for_its_data_alone(directories):
    data = opened(options(directories[0]))
    batches = data.batches(jax.device_put)
    next(batches)
    position = json.loads(json.dumps(batches.position()))
    want = next(batches)
    batches.close()
    again = data.batches(jax.device_put, position)
    np.testing.assert_array_equal(next(again)["images"], want["images"])
    assert again.position()["batches"] == 2
    # Older checkpoints hold Grain's own state; a step has always been a batch.
    old = {"order": {**position["order"], "workers": 4, "hosts": 1}, "state": {"next_index": 1}}
    again = data.batches(jax.device_put, old, step=1)
    np.testing.assert_array_equal(next(again)["images"], want["images"])
    for other, named in (
        (opened(options(directories[1])), r"for data \['5 episodes, \w+'\], here it is \['4"),
        (opened(options(directories[0]), seed=2), "seed 1, here it is 2"),
    ):
        with pytest.raises(DatasetError, match=named):
            other.batches(jax.device_put, position)


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_a_position_is_for_any_number_of_hosts(directories, hosts):
    """Blocks of rows, one host's after another's, are the batch of a single host."""
    mixture = [(str(directories[0]), 3.0), (str(directories[1]), 1.0)]
    whole = opened(options(None, mixture=mixture), batch_size=8).batches(jax.device_put)
    want = [next(whole) for _ in range(5)]
    position = {"order": whole.position()["order"], "batches": 3}
    parts = [
        opened(
            options(None, mixture=mixture),
            batch_size=8 // hosts,
            process_index=host,
            process_count=hosts,
        ).batches(jax.device_put, position, process=host)
        for host in range(hosts)
    ]
    for batch in want[3:]:
        found = [next(part) for part in parts]
        joined = jax.tree.map(lambda *rows: np.concatenate(rows), *found)
        jax.tree.map(np.testing.assert_array_equal, joined, batch)


class TestBadMixtures:
    def test_a_dataset_that_is_not_there(self, directories, tmp_path):
        mixture = [(str(directories[0]), 1.0), (str(tmp_path / "none"), 1.0)]
        with pytest.raises(DatasetError, match="no dataset directory .*none"):
            opened(options(None, mixture=mixture))

    def test_a_dataset_twice(self, directories):
        with pytest.raises(DatasetError, match="twice"):
            opened(options(None, mixture=[(str(directories[0]), 1.0)] * 2))
        with pytest.raises(DatasetError, match="twice"):
            opened(options(None, mixture=[(f"{directories[0]}{end}", 1.0) for end in ("", "/.")]))

    def test_a_weight_of_nothing(self, directories):
        mixture = [(str(directories[0]), 1.0), (str(directories[1]), 0.0)]
        with pytest.raises(DatasetError, match=r"weight of .*b is 0.0"):
            opened(options(None, mixture=mixture))

    def test_frames_of_two_sizes(self, directories):
        mixture = [(str(directories[0]), 1.0), (str(directories[2]), 1.0)]
        with pytest.raises(DatasetError, match=r"\[16, 20\] and \[32, 40\].*image_size"):
            opened(options(None, mixture=mixture))
        data = opened(options(None, mixture=mixture, image_size=(16, 20)))
        assert next(iter(data.stream(0)))["images"].shape[2:4] == (16, 20)

    def test_two_action_specs(self, directories, tmp_path):
        other = make_other(tmp_path / "other", dataclasses.replace(RT1, name="other"))
        with pytest.raises(DatasetError, match=r"'tabletop' and 'other'.*--actions=rt1_x"):
            opened(options(None, mixture=[(str(directories[0]), 1.0), (str(other), 1.0)]))

    def test_two_encoders(self, directories, tmp_path):
        encoder = small.HashEncoder()
        encoder.identity = EncoderIdentity("stored:others", 512)
        other = make_other(tmp_path / "other", None, encoder)
        with pytest.raises(EncoderMismatchError, match="stored:others"):
            opened(options(None, mixture=[(str(directories[0]), 1.0), (str(other), 1.0)]))


def make_other(directory, spec, encoder=None):
    path = directory / "shard-00000.array_record"
    writer = EpisodeWriter(path, "png")
    for seed in range(3):
        writer.add(small.make_episode(seed))
    writer.close()
    finish_dataset(
        directory,
        [path],
        action_spec=spec or small.TABLETOP,
        frame_rate=3.0,
        source={},
        encoder=encoder or small.HashEncoder(),
    )
    return directory

import json
import pathlib

import numpy as np
import pytest
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.data.episode import EpisodeError
from rt1_jax.data.finish import finish_dataset
from rt1_jax.data.shards import DatasetError, EpisodeWriter
from rt1_jax.data.store import StepStore


@pytest.fixture
def dataset(tmp_path: pathlib.Path) -> pathlib.Path:
    return small.make_dataset(tmp_path / "data")


def test_what_is_written_is_read_again(dataset):
    store = StepStore.open(dataset)
    assert len(store) == 6
    # Shard 0 holds seeds 0, 2, 4; shard 1 holds 1, 3, 5.
    for row, seed in enumerate((0, 2, 4, 1, 3, 5)):
        want, got = small.make_episode(seed, (5, 2, 7, 4, 6, 3)[seed]), store.read(row)
        np.testing.assert_array_equal(got.images, want.images)
        assert got.instruction == want.instruction
        for name, value in want.actions.items():
            np.testing.assert_array_equal(got.actions[name], value)
        np.testing.assert_array_equal(
            store.embedding(row), small.HashEncoder().embed([want.instruction])[0]
        )
    assert [m["seed"] for m in store.metadata()] == [0, 2, 4, 1, 3, 5]


def test_a_part_of_an_episode(dataset):
    store = StepStore.open(dataset)
    whole, part = store.read(1), store.read(1, start=2, steps=3)
    np.testing.assert_array_equal(part.images, whole.images[2:5])
    np.testing.assert_array_equal(part.actions["world_vector"], whole.actions["world_vector"][2:5])


def test_the_cache_gives_the_same_and_stops_at_its_limit(dataset):
    plain, cached = StepStore.open(dataset), StepStore.open(dataset, cache_bytes=5000)
    for _ in range(2):
        for row in range(6):
            np.testing.assert_array_equal(
                cached.read(row, 0, 2).images, plain.read(row, 0, 2).images
            )
    # 16 * 20 * 3 = 960 bytes a frame; filling stops once 5000 are passed.
    kept = sum(episode.images.nbytes for episode in cached._cache.values())
    assert 5000 <= kept < 5000 + 7 * 960
    assert len(cached._cache) < 6


def test_action_statistics(dataset):
    store = StepStore.open(dataset)
    actions = np.concatenate([store.read(i).actions["world_vector"] for i in range(6)])
    found = store.description["action_statistics"]["world_vector"]
    np.testing.assert_allclose(found["mean"], actions.mean(0), atol=1e-7)
    np.testing.assert_allclose(found["std"], actions.std(0), atol=1e-7)
    np.testing.assert_allclose(found["max"], actions.max(0), atol=1e-7)


def test_select_keeps_the_episodes(dataset):
    store = StepStore.open(dataset)
    last = store.select(slice(4, None))
    assert len(last) == 2
    np.testing.assert_array_equal(last.read(1).images, store.read(5).images)


def test_jpeg_is_close(tmp_path):
    path = tmp_path / "shard-00000.array_record"
    writer = EpisodeWriter(path, "jpeg", TABLETOP)
    episode = small.make_episode(3)
    episode.images[:] = np.linspace(0, 255, 20, dtype=np.uint8)[:, None]
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
    got = StepStore.open(tmp_path).read(0).images
    assert np.abs(got.astype(int) - episode.images).max() <= 4


def test_an_unclosed_shard_does_not_appear(tmp_path):
    writer = EpisodeWriter(tmp_path / "shard-00000.array_record", "png", TABLETOP)
    writer.add(small.make_episode(0))
    assert not (tmp_path / "shard-00000.array_record").exists()
    writer.abort()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda e: e.actions.pop("world_vector"), "world_vector"),
        (lambda e: setattr(e, "images", e.images.astype(np.float32)), "uint8"),
        (lambda e: setattr(e, "instruction", " "), "instruction is empty"),
        (lambda e: e.actions["world_vector"].__setitem__(0, np.nan), "world_vector"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(tmp_path, break_it, message):
    writer = EpisodeWriter(tmp_path / "shard-00000.array_record", "png", TABLETOP)
    episode = small.make_episode(0)
    break_it(episode)
    with pytest.raises((EpisodeError, ValueError), match=message):
        writer.add(episode)
    writer.abort()


def test_frames_of_two_sizes_are_refused(tmp_path):
    writer = EpisodeWriter(tmp_path / "shard-00000.array_record", "png", TABLETOP)
    writer.add(small.make_episode(0))
    with pytest.raises(DatasetError, match="one size"):
        writer.add(small.make_episode(1, size=(8, 8)))
    writer.abort()


class TestDamage:
    def test_no_directory(self, tmp_path):
        with pytest.raises(DatasetError, match="no dataset directory"):
            StepStore.open(tmp_path / "nothing")

    def test_unfinished(self, dataset):
        (dataset / "dataset.json").unlink()
        with pytest.raises(DatasetError, match="interrupted"):
            StepStore.open(dataset)

    def test_missing_shard(self, dataset):
        (dataset / "shard-00001.array_record").unlink()
        with pytest.raises(DatasetError, match=r"shard-00001.array_record is missing"):
            StepStore.open(dataset)

    def test_truncated_shard(self, dataset):
        path = dataset / "shard-00000.array_record"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(
            DatasetError, match=r"shard-00000.array_record has \d+ bytes, expected \d+"
        ):
            StepStore.open(dataset)

    def test_shard_of_another_dataset(self, dataset, tmp_path):
        other = small.make_dataset(tmp_path / "other", lengths=(3, 3, 3))
        name = "shard-00000.array_record"
        (dataset / name).write_bytes((other / name).read_bytes())
        # Small files have one size: this one is known by what it holds.
        with pytest.raises(DatasetError, match="holds 6 steps, expected 18"):
            StepStore.open(dataset).read(0)

    def test_shard_of_another_dataset_in_an_older_description(self, dataset, tmp_path):
        other = small.make_dataset(tmp_path / "other", lengths=(3, 3, 3))
        name = "shard-00000.array_record"
        (dataset / name).write_bytes((other / name).read_bytes())
        description = json.loads((dataset / "dataset.json").read_text())
        del description["shard_bytes"]
        (dataset / "dataset.json").write_text(json.dumps(description))
        with pytest.raises(DatasetError, match="expected 18"):
            StepStore.open(dataset)

    def test_embeddings_do_not_fit(self, dataset):
        np.save(dataset / "embeddings.npy", np.zeros((1, 512), np.float32))
        with pytest.raises(DatasetError, match=r"embeddings.npy.*expected"):
            StepStore.open(dataset)

    def test_another_version(self, dataset):
        path = dataset / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
        with pytest.raises(DatasetError, match="version 99"):
            StepStore.open(dataset)

    def test_a_flipped_byte_is_named(self, dataset):
        path = dataset / "shard-00000.array_record"
        data = bytearray(path.read_bytes())
        start = data.find(b"\x89PNG")
        data[start : start + 200] = bytes(200)
        path.write_bytes(bytes(data))

        def read_all():
            store = StepStore.open(dataset)
            return [store.read(row) for row in range(len(store))]

        with pytest.raises(DatasetError, match="shard-00000"):
            read_all()

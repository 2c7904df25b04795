"""What is exported to RLDS is read back by TensorFlow Datasets, exactly."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.data.episode import Episode, decode_image
from rt1_jax.data.export_rlds import export_rlds, main
from rt1_jax.data.finish import finish_dataset
from rt1_jax.data.shards import DatasetError, EpisodeWriter
from rt1_jax.data.store import StepStore

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six episodes, the last of which ends without saying so; JPEG."""
    root = tmp_path_factory.mktemp("data")
    path = root / "shard-00000.array_record"
    writer = EpisodeWriter(path, "jpeg", TABLETOP)
    for seed, length in enumerate((5, 2, 7, 4, 6, 3)):
        episode = small.make_episode(seed, length)
        if seed == 5:
            episode.actions["terminate_episode"][-1] = (0, 1, 0)
        writer.add(Episode(episode.images, episode.actions, f"find {seed}", {"seed": seed}))
    writer.close()
    finish_dataset(
        root,
        [path],
        action_spec=TABLETOP,
        frame_rate=3.0,
        source={"made": "by a test"},
        encoder=small.HashEncoder(),
    )
    return StepStore.open(root)


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    output = tmp_path_factory.mktemp("rlds")
    return export_rlds(store, output, name="my_robot", shard_bytes=8000, progress=False)


def test_everything_is_read_back(store, exported):
    builder = tfds.builder_from_directory(str(exported))
    skip = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}
    episodes = builder.as_dataset(split="train", shuffle_files=False, decoders=skip)
    found = [[*episode["steps"]] for episode in tfds.as_numpy(episodes)]
    assert len(found) == len(store) == 6
    for number, steps in enumerate(found):
        want = store.read_encoded(number)
        assert [step["observation"]["image"] for step in steps] == want.frames
        for t, step in enumerate(steps):
            assert set(step["action"]) == set(store.action_spec.field_names)
            for name, value in want.actions.items():
                np.testing.assert_array_equal(step["action"][name], value[t])
            observation = step["observation"]
            assert observation["natural_language_instruction"].decode() == f"find {number}"
            np.testing.assert_array_equal(
                observation["natural_language_embedding"], store.embedding(number)
            )
            last = t == len(steps) - 1
            ends = last and number != 5
            assert step["is_first"] == (t == 0)
            assert step["is_last"] == last
            assert step["is_terminal"] == ends
            assert step["reward"] == float(ends)
        assert steps[0]["action"]["terminate_episode"].dtype == np.int32
        assert steps[0]["action"]["world_vector"].dtype == np.float32


def test_frames_are_decoded_as_we_decode_them(store, exported):
    builder = tfds.builder_from_directory(str(exported))
    first = next(iter(tfds.as_numpy(builder.as_dataset(split="train[:1]"))))
    for step, frame in zip(first["steps"], store.read_encoded(0).frames, strict=True):
        # Two decoders of JPEG may round differently.
        difference = np.abs(step["observation"]["image"].astype(int) - decode_image(frame))
        assert difference.max() <= 3


def test_the_directory_is_as_tfds_wants_it(store, exported):
    assert exported.parts[-2:] == ("my_robot", "1.0.0")
    builder = tfds.builder("my_robot", data_dir=str(exported.parents[1]))
    assert builder.info.splits["train"].num_examples == 6
    assert builder.info.splits["train"].num_shards > 1
    assert builder.info.metadata["encoder"]["name"] == store.encoder.name
    image = builder.info.features["steps"]["observation"]["image"]
    assert image.shape == (16, 20, 3)


def test_a_full_disk_leaves_nothing(store, tmp_path, monkeypatch):
    from tensorflow_datasets.core.sequential_writer import SequentialWriter

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SequentialWriter, "close_splits", full)
    with pytest.raises(OSError, match="No space left"):
        export_rlds(store, tmp_path, name="my_robot", progress=False)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(store, tmp_path):
    with pytest.raises(DatasetError, match="--name=My-Robot"):
        export_rlds(store, tmp_path, name="My-Robot", progress=False)
    (tmp_path / "taken").mkdir()
    with pytest.raises(DatasetError, match="taken exists"):
        export_rlds(store, tmp_path, name="taken", progress=False)


def test_the_command(store, tmp_path, capsys):
    arguments = [f"--dataset={store.directory}", f"--output={tmp_path}", "--name=my_robot"]
    assert main(arguments) == 0
    assert "6 episodes (27 steps)" in capsys.readouterr().out
    assert main(arguments) == 1

"""Ours -> LeRobot -> ours: actions exact, frames exact in tables and close in videos."""

from __future__ import annotations

import errno
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import small

from rt1_jax.data.export_lerobot import IMAGE_KEY, action_names, export_lerobot, main
from rt1_jax.data.import_lerobot import import_lerobot, make_plan
from rt1_jax.data.lerobot.layout import LeRobotError
from rt1_jax.data.lerobot.video import VideoWriter
from rt1_jax.data.lerobot.writer import LeRobotWriter
from rt1_jax.data.store import StepStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return StepStore.open(small.make_dataset(tmp_path_factory.mktemp("data"), size=(64, 80)))


def back(exported, output):
    plan = make_plan(exported, camera=IMAGE_KEY)
    import_lerobot(plan, output, encoder=small.HashEncoder(), progress=False)
    return StepStore.open(output)


def same_but_frames(store, found):
    assert found.action_spec == store.action_spec
    assert found.lengths.tolist() == store.lengths.tolist()
    assert found.description["frame_rate"] == store.description["frame_rate"]
    assert found.metadata() == store.metadata()
    for episode in range(len(store)):
        want, got = store.read_encoded(episode), found.read_encoded(episode)
        assert got.instruction == want.instruction
        for name, value in want.actions.items():
            np.testing.assert_array_equal(got.actions[name], value)


def test_in_tables_everything_is_exact(store, tmp_path):
    export_lerobot(store, tmp_path / "out", codec=None, progress=False)
    found = back(tmp_path / "out", tmp_path / "back")
    same_but_frames(store, found)
    for episode in range(len(store)):
        assert found.read_encoded(episode).frames == store.read_encoded(episode).frames
    assert not (tmp_path / "out/videos").exists()


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_in_videos_frames_are_close_and_in_order(store, tmp_path, codec):
    export_lerobot(store, tmp_path / "out", codec=codec, progress=False)
    found = back(tmp_path / "out", tmp_path / "back")
    same_but_frames(store, found)
    for episode in range(len(store)):
        want, got = store.read(episode).images, found.read(episode).images
        assert np.abs(got.astype(int) - want).mean() < 2


def test_files_are_split_at_their_limits(tmp_path):
    data = small.make_dataset(tmp_path / "data", (90, 80, 70, 60), shards=1, size=(64, 80))
    store = StepStore.open(data)
    export_lerobot(store, tmp_path / "video", file_mb=(0.008, 0.001), progress=False)
    assert len([*(tmp_path / "video/videos").rglob("*.mp4")]) > 1
    assert len([*(tmp_path / "video/data").rglob("*.parquet")]) > 1
    same_but_frames(store, back(tmp_path / "video", tmp_path / "back"))


def test_metadata(store, tmp_path):
    export_lerobot(store, tmp_path / "out", progress=False)
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["fps"] == 3
    assert (info["total_episodes"], info["total_frames"]) == (6, 27)
    assert info["total_tasks"] == len(store.instructions)
    assert info["features"]["action"] == {
        "dtype": "float32",
        "shape": [13],
        "names": action_names(store.action_spec),
    }
    assert info["features"][IMAGE_KEY]["shape"] == [64, 80, 3]
    assert info["features"][IMAGE_KEY]["info"]["video.codec"] == "h264"
    rows = pq.read_table(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    stop = 0
    for episode, row in enumerate(rows):
        assert (row["episode_index"], row["length"]) == (episode, store.lengths[episode])
        assert row["dataset_from_index"] == stop
        assert row[f"videos/{IMAGE_KEY}/from_timestamp"] == pytest.approx(stop / 3)
        stop = row["dataset_to_index"]
        assert row[f"videos/{IMAGE_KEY}/to_timestamp"] == pytest.approx(stop / 3)
    assert stop == 27


def test_statistics(store, tmp_path):
    export_lerobot(store, tmp_path / "out", codec=None, progress=False)
    found = json.loads((tmp_path / "out/meta/stats.json").read_text())
    episodes = [store.read(i) for i in range(len(store))]
    actions = np.concatenate([e.actions["world_vector"] for e in episodes])
    names = action_names(store.action_spec)
    columns = [names.index(f"world_vector/{axis}") for axis in "xyz"]
    for key, want in (
        ("mean", actions.mean(0)),
        ("std", actions.std(0)),
        ("min", actions.min(0)),
        ("q10", np.quantile(actions, 0.1, axis=0)),
    ):
        np.testing.assert_allclose(np.asarray(found["action"][key])[columns], want, atol=1e-6)
    pixels = np.concatenate([e.images for e in episodes]) / 255
    picture = {key: np.asarray(value) for key, value in found[IMAGE_KEY].items()}
    assert picture["mean"].shape == picture["q99"].shape == (3, 1, 1)
    np.testing.assert_allclose(picture["mean"].ravel(), pixels.mean((0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(picture["std"].ravel(), pixels.std((0, 1, 2)), atol=1e-9)
    assert found["index"]["max"] == [26]
    assert found["timestamp"]["count"] == [27]


@pytest.mark.parametrize("codec", [None, "libx264"])
def test_a_full_disk_leaves_nothing(store, tmp_path, monkeypatch, codec):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if codec is None:
        monkeypatch.setattr(LeRobotWriter, "_write_tasks", full)
    else:
        monkeypatch.setattr(VideoWriter, "add", full)
    with pytest.raises(OSError, match="No space left"):
        export_lerobot(store, tmp_path / "out", codec=codec, progress=False)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(store, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    with pytest.raises(LeRobotError, match="taken exists"):
        export_lerobot(store, tmp_path / "taken", progress=False)
    with pytest.raises(LeRobotError, match="without '/'"):
        export_lerobot(store, tmp_path / "out", image_key="a/b", progress=False)
    small_frames = StepStore.open(small.make_dataset(tmp_path / "small", (2,), 1))
    with pytest.raises(LeRobotError, match="libsvtav1 needs 64 or more"):
        export_lerobot(small_frames, tmp_path / "out", codec="libsvtav1", progress=False)
    odd_frames = StepStore.open(small.make_dataset(tmp_path / "odd", (2,), 1, (15, 20)))
    with pytest.raises(LeRobotError, match=r"15x20 pixels.*--video=false"):
        export_lerobot(odd_frames, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_the_command(store, tmp_path, capsys):
    arguments = [f"--dataset={store.directory}", f"--output={tmp_path / 'out'}"]
    assert main([*arguments, "--video=false"]) == 0
    assert "6 episodes (27 steps)" in capsys.readouterr().out
    assert main(arguments) == 1
    assert "exists: choose another" in capsys.readouterr().err

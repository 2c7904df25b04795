"""LeRobot itself reads our exports, and we read what it writes.

Skipped where LeRobot is not installed. It wants other versions of some packages than we do, so it
may be in an environment of its own: set LEROBOT_PYTHON to that environment's interpreter.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import small

from rt1_jax.data.export_lerobot import IMAGE_KEY, action_names, export_lerobot
from rt1_jax.data.import_lerobot import import_lerobot, make_plan
from rt1_jax.data.store import StepStore

pytestmark = pytest.mark.slow
SCRIPT = pathlib.Path(__file__).parents[2] / "support/use_lerobot.py"


@pytest.fixture(scope="module")
def lerobot():
    """Runs the script with LeRobot's interpreter."""
    python = os.environ.get("LEROBOT_PYTHON")
    if python is None and importlib.util.find_spec("lerobot") is None:
        pytest.skip("LeRobot is not installed; LEROBOT_PYTHON may name an interpreter that has it")
    python = python or sys.executable
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}

    def use(*arguments):
        command = [python, str(SCRIPT), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    return use


@pytest.mark.parametrize("codec", [None, "libx264", "libsvtav1"])
def test_lerobot_reads_our_export(lerobot, tmp_path, codec):
    data = small.make_dataset(tmp_path / "data", (90, 5, 80, 70), size=(64, 80))
    store = StepStore.open(data)
    export_lerobot(store, tmp_path / "out", codec=codec, file_mb=(0.02, 0.001), progress=False)
    kind = "data" if codec is None else "videos"
    assert len([*(tmp_path / "out" / kind).rglob("file-*")]) > 1
    lerobot("read", tmp_path / "out", tmp_path / "read.npz")
    found = np.load(tmp_path / "read.npz")
    episodes = [store.read(i) for i in range(len(store))]
    actions = np.concatenate(
        [np.concatenate([e.actions[f] for f in store.action_spec.field_names], 1) for e in episodes]
    )
    np.testing.assert_array_equal(found["actions"], actions)
    np.testing.assert_allclose(found["mean"], actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(found["quantile"], np.quantile(actions, 0.99, axis=0), atol=1e-6)
    assert found["tasks"].tolist() == [e.instruction for e in episodes for _ in range(len(e))]
    assert found["episodes"].tolist() == [i for i, e in enumerate(episodes) for _ in range(len(e))]
    assert found["names"].tolist() == action_names(store.action_spec)
    assert found["fps"] == 3
    assert found["image_mean"].shape == (3, 1, 1)
    images = np.concatenate([e.images for e in episodes]).transpose(0, 3, 1, 2) / 255
    second = images[len(episodes[0]) :][: len(episodes[1])]
    if codec is None:
        np.testing.assert_allclose(found["images"], images, atol=1e-6)
        np.testing.assert_allclose(found["window"][:, 1], second, atol=1e-6)
    else:
        assert np.abs(found["images"] - images).mean() < 0.01
        assert np.abs(found["window"][:, 1] - second).mean() < 0.01


@pytest.mark.parametrize("kind", ["video", "image"])
def test_we_read_what_lerobot_writes(lerobot, tmp_path, kind):
    lerobot("write", tmp_path / "made", kind)
    plan = make_plan(tmp_path / "made", camera=IMAGE_KEY)
    import_lerobot(plan, tmp_path / "data", encoder=small.HashEncoder(), progress=False)
    store = StepStore.open(tmp_path / "data")
    assert store.lengths.tolist() == [4, 6, 3]
    assert store.description["frame_rate"] == 10
    index = 0
    for number in range(3):
        episode = store.read(number)
        assert episode.instruction == f"task {number % 2}"
        for step, image in enumerate(episode.images):
            assert abs(int(image.mean()) - (10 + 15 * index)) <= (3 if kind == "video" else 0)
            want = np.arange(3, dtype=np.float32) / 10 + index
            np.testing.assert_array_equal(episode.actions["world_vector"][step], want)
            index += 1

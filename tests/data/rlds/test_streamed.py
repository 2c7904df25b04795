"""What `data.rlds` of a config asks for is checked before anything is read."""

import pathlib

import pytest
import rlds
import small

from rt1_jax.data import oxe
from rt1_jax.data.rlds import streamed
from rt1_jax.data.rlds.streamed import open_stream
from rt1_jax.data.shards import DatasetError
from rt1_jax.training.config_keys import data_with_newer

NAME = "fractal20220817_data"


@pytest.fixture(scope="module")
def builder_dir(tmp_path_factory) -> pathlib.Path:
    return rlds.write_rlds(tmp_path_factory.mktemp("rlds"), NAME, episodes=4, steps=3)


def open_files(builder_dir, **asked):
    config = {"episodes": 0, "tasks": 1.0, "embedding_components": 0, "travel_repeats": 1}
    asked = {"builder_dir": str(builder_dir), "dataset": NAME, **asked}
    return open_stream(
        data_with_newer({**config, "validation_episodes": 0, "rlds": asked}),
        {"workers": 0},
        frames=2,
        embedding_size=512,
        batch_size=2,
        seed=0,
    )


def test_batches(builder_dir):
    data = open_files(builder_dir)
    batch = next(iter(data.stream(0)))
    assert batch["images"].shape == (2, 2, 256, 320, 3)
    assert data.action_spec == oxe.get(NAME).action_spec
    assert open_files(builder_dir, actions="rt1_x").action_spec.name == "rt1_x"


@pytest.fixture
def nothing_is_read(monkeypatch):
    def fail(*arguments):
        raise AssertionError("a record was read")

    monkeypatch.setattr(streamed, "wanted_frames", fail)


@pytest.mark.usefixtures("nothing_is_read")
class TestRefusedAtOnce:
    def test_actions_that_are_misspelt(self, builder_dir):
        with pytest.raises(DatasetError, match=r"actions 'rt1-x'.*'rt1_x'.*data.rlds.actions"):
            open_files(builder_dir, actions="rt1-x")

    def test_a_rescaling_that_is_not_published(self, tmp_path, monkeypatch):
        monkeypatch.setattr("rt1_jax.language.load_encoder", lambda *_: small.HashEncoder())
        files = rlds.write_rlds(tmp_path, "language_table", episodes=1, steps=2)
        with pytest.raises(DatasetError, match=r"language_table has no published RT-1-X.*physical"):
            open_files(files, dataset="language_table", actions="rt1_x", encoder="hash")

    def test_files_of_another_dataset(self, builder_dir):
        with pytest.raises(oxe.OXEError, match=rf"files are of '{NAME}'.*'toto'"):
            open_files(builder_dir, dataset="toto")

"""Runs on chunks, mixtures and RLDS files."""

import shutil

import jax
import numpy as np
import pytest
import rlds
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.checkpoints import native
from rt1_jax.data.loader import ChunkSource, WindowSource
from rt1_jax.data.store import StepStore
from rt1_jax.models import registry
from rt1_jax.training.loop import train
from rt1_jax.training.metrics import read_metrics
from rt1_jax.training.step import make_eval_step
from rt1_jax.training.workdir import WorkdirError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small.make_dataset(tmp_path_factory.mktemp("data") / "data", lengths=(9, 8, 8, 7, 2, 5))


def stacked(rows):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def test_the_loss_of_chunks_is_that_of_their_windows(dataset):
    store = StepStore.open(dataset)
    windows = WindowSource(store, 3)
    chunks = ChunkSource(store, 3, 4)
    model = registry.build("rt1", small.small_model().to_json())
    step = jax.jit(make_eval_step(model, TABLETOP, statistics=None))
    every_window = stacked([windows[i] for i in range(len(windows))])
    every_chunk = stacked([chunks[i] for i in range(len(chunks))])
    assert every_chunk["windows"].sum() == len(windows)
    inputs = every_window["images"][:1], every_window["embedding"][:1]
    variables = jax.jit(model.init)(jax.random.key(0), *inputs)
    want, found = step(variables, every_window), step(variables, every_chunk)
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def leaves(workdir, step):
    return jax.tree.leaves(native.load_variables(workdir / "checkpoints" / str(step)))


def test_chunks(dataset, tmp_path):
    config = small.small_config(dataset)
    config.data.travel_repeats = 1
    config.data.chunk = 3
    train(config, tmp_path / "whole", progress=False)
    rows = read_metrics(tmp_path / "whole")
    assert all(np.isfinite(row["loss"]) for row in rows)
    # Stopped after the first checkpoint, it goes on to the same weights.
    train(config, tmp_path / "run", progress=False)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "8")
    train(config, tmp_path / "run", progress=False)
    for x, y in zip(leaves(tmp_path / "run", 8), leaves(tmp_path / "whole", 8), strict=True):
        np.testing.assert_array_equal(x, y)
    config.data.chunk = 4
    with pytest.raises(WorkdirError, match="data.chunk is 3"):
        train(config, tmp_path / "run", progress=False)


def test_a_mixture(dataset, tmp_path):
    other = small.make_dataset(tmp_path / "other", lengths=(4, 6, 5))
    config = small.small_config(dataset)
    config.data.mixture = ((str(dataset), 2.0), (str(other), 1.0))
    summary = train(config, tmp_path / "run", progress=False)
    rows = read_metrics(tmp_path / "run")
    assert {row["split"] for row in rows} == {"train", "validation/data", "validation/other"}
    assert np.isfinite(summary["validation_loss"])
    source = native.read_description(native.find_checkpoint(tmp_path / "run")).source
    assert [part["weight"] for part in source["data"]] == [2.0, 1.0]


def test_rlds_files_as_they_are(tmp_path):
    name = "fractal20220817_data"
    builder_dir = rlds.write_rlds(tmp_path / "rlds", name, episodes=6, steps=5, shards=2)
    config = small.small_config("unused")
    config.model.embedding_size = 512
    config.data.update(
        validation_episodes=0, embedding_components=0, travel_repeats=1, image_size=(16, 20)
    )
    config.data.rlds.update(builder_dir=str(builder_dir), dataset=name)
    summary = train(config, tmp_path / "run", progress=False)
    assert np.isfinite(summary["loss"])
    description = native.read_description(native.find_checkpoint(tmp_path / "run"))
    assert description.action_spec.name == name
    assert description.image_size == (16, 20)
    config.data.travel_repeats = 3
    with pytest.raises(ValueError, match=r"data.travel_repeats is 3.*import"):
        train(config, tmp_path / "other", progress=False)


@pytest.mark.parametrize(("name", "value"), [("bins", 128), ("action_tokens", 10)])
def test_a_model_for_other_actions(dataset, tmp_path, name, value):
    config = small.small_config(dataset)
    config.model[name] = value
    with pytest.raises(ValueError, match=rf"model.{name} is {value}, but .*set --config.model"):
        train(config, tmp_path / "run", progress=False)

import json
import math

import jax
import numpy as np
import pytest
import small

import rt1_jax
from rt1_jax.checkpoints import native
from rt1_jax.checkpoints.saver import CheckpointSaver
from rt1_jax.data.augmentation import Augmentation
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore
from rt1_jax.data.windows import WindowSource
from rt1_jax.training import program
from rt1_jax.training.guards import NonFiniteLossError
from rt1_jax.training.loop import train
from rt1_jax.training.metrics import read_metrics
from rt1_jax.training.workdir import WorkdirError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    # 30 windows of 3 frames after the held-out episode.
    return small.make_dataset(tmp_path_factory.mktemp("data") / "data", lengths=(9, 8, 8, 7, 9, 5))


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """A run of 8 steps without interruption."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    train(small.small_config(dataset), workdir, progress=False)
    return workdir


def leaves(workdir, step):
    path = workdir / "checkpoints" / str(step)
    return jax.tree.leaves(native.load_variables(path))


def test_what_a_run_leaves(finished):
    assert native.list_checkpoints(finished) == [4, 8]
    rows = read_metrics(finished)
    assert [(r["step"], r["split"]) for r in rows] == [
        *((4, "train"), (4, "validation"), (8, "train"), (8, "validation"))
    ]
    assert all(math.isfinite(r["loss"]) for r in rows)
    assert {"accuracy/world_vector/x", "error/world_vector/x", "frames_per_second"} <= set(rows[0])
    assert list((finished / "tensorboard").iterdir())


def test_it_learns(dataset, tmp_path):
    config = small.small_config(dataset, steps=60)
    config.checkpoint_every = 60
    train(config, tmp_path / "run", progress=False)
    rows = [r for r in read_metrics(tmp_path / "run") if r["split"] == "train"]
    # The colour of the frame tells world_vector x; nothing tells the others.
    assert rows[-1]["cross_entropy/world_vector/x"] < 0.7 * rows[0]["cross_entropy/world_vector/x"]


def test_a_resumed_run_is_the_uninterrupted_one(dataset, finished, tmp_path):
    workdir = tmp_path / "run"
    config = small.small_config(dataset)

    class StopError(Exception):
        pass

    real = CheckpointSaver.save

    def save_then_stop(saver, *args):
        real(saver, *args)
        raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointSaver, "save", save_then_stop)
        with pytest.raises(StopError):
            train(config, workdir, progress=False)
    assert native.list_checkpoints(workdir) == [4]
    train(config, workdir, progress=False)
    for one, other in zip(leaves(workdir, 8), leaves(finished, 8), strict=True):
        np.testing.assert_array_equal(one, other)
    steps = [(r["step"], r["split"]) for r in read_metrics(workdir)]
    assert len(steps) == len(set(steps))


def test_the_same_seed_gives_the_same_run_and_another_seed_another(dataset, finished, tmp_path):
    config = small.small_config(dataset, steps=8)
    train(config, tmp_path / "same", progress=False)
    config.seed = 1
    train(config, tmp_path / "other", progress=False)
    for one, other in zip(leaves(tmp_path / "same", 8), leaves(finished, 8), strict=True):
        np.testing.assert_array_equal(one, other)
    pairs = zip(leaves(tmp_path / "other", 8), leaves(finished, 8), strict=True)
    assert any((one != other).any() for one, other in pairs)


def test_the_checkpoint_acts(dataset, finished):
    policy = rt1_jax.load_policy(finished)
    store = StepStore.open(dataset)
    assert policy.description.step == 8
    assert policy.action_spec == store.action_spec
    np.testing.assert_allclose(
        policy.description.encoder.check_embedding, store.encoder.check_embedding, atol=1e-6
    )
    window = store.read(0, 0, 3)
    logits = policy.logits(window.images[None], store.embedding(0)[None])
    assert logits.shape == (1, 3, 11, 256)


def test_old_checkpoints_go(dataset, tmp_path):
    config = small.small_config(dataset, steps=6)
    config.checkpoint_every, config.keep_checkpoints = 2, 1
    train(config, tmp_path / "run", progress=False)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["6"]


def test_a_workdir_of_another_config_is_refused(dataset, finished):
    config = small.small_config(dataset)
    config.optimizer.learning_rate = 0.5
    with pytest.raises(WorkdirError, match=r"optimizer.learning_rate is 0.003 there and 0.5 here"):
        train(config, finished, progress=False)


def test_divergence_stops_the_run_and_keeps_the_last_checkpoint(dataset, tmp_path):
    config = small.small_config(dataset, steps=12)
    workdir = tmp_path / "run"
    config.optimizer.learning_rate = 1e30
    config.optimizer.clip_norm = 1e30
    with pytest.raises(NonFiniteLossError, match=r"not finite by step \d+.*learning_rate"):
        train(config, workdir, progress=False)
    for step in native.list_checkpoints(workdir):
        assert all(np.isfinite(leaf).all() for leaf in leaves(workdir, step))


def test_more_validation_episodes_than_there_are(dataset, tmp_path):
    config = small.small_config(dataset)
    config.data.validation_episodes = 6
    with pytest.raises(DatasetError, match="validation_episodes is 6"):
        train(config, tmp_path / "run", progress=False)


@pytest.mark.parametrize(("components", "size"), [(1, 512), (0, 1), (2, 1)])
def test_an_embedding_size_that_is_not_what_the_data_give(dataset, tmp_path, components, size):
    config = small.small_config(dataset)
    config.data.embedding_components = components
    config.model.embedding_size = size
    with pytest.raises(ValueError, match=rf"embedding_size is {size}, but .*is {components}"):
        train(config, tmp_path / "run", progress=False)


def test_metrics_survive_a_line_that_was_cut_off(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_the_configs_augmentation_reaches_the_step(dataset, tmp_path, monkeypatch):
    config = small.small_config(dataset)
    config.data.jitter.hue = 0.1
    config.data.augment_per_frame = True

    class AskedError(Exception):
        pass

    def ask(*args, augmentation, **kwargs):
        raise AskedError(augmentation)

    monkeypatch.setattr(program, "make_train_step", ask)
    with pytest.raises(AskedError) as asked:
        train(config, tmp_path / "run", progress=False)
    assert asked.value.args == (Augmentation((1, 1), per_frame=True, hue=0.1),)


def test_a_bucket_is_no_workdir(dataset):
    with pytest.raises(WorkdirError, match=r"gs://b/run.*mount"):
        train(small.small_config(dataset), "gs://b/run", progress=False)


def test_the_best_checkpoint_is_kept(dataset, tmp_path):
    config = small.small_config(dataset, steps=6)
    config.checkpoint_every, config.keep_checkpoints, config.keep_best = 1, 1, 1
    train(config, tmp_path / "run", progress=False)
    losses = {
        r["step"]: r["loss"] for r in read_metrics(tmp_path / "run") if r["split"] == "validation"
    }
    best = min(losses, key=losses.get)
    kept = native.list_checkpoints(tmp_path / "run")
    assert kept == sorted({best, 6})
    description = native.read_description(tmp_path / "run" / "checkpoints" / str(best))
    assert description.source["validation_loss"] == pytest.approx(losses[best])


def test_a_few_bad_gradients_are_left_out_and_counted(dataset, tmp_path, monkeypatch):
    """One batch whose instruction is not a number: its update is not applied."""
    config = small.small_config(dataset, steps=6)
    config.checkpoint_every, config.log_every = 6, 1
    config.guards.max_skipped = 1
    real = WindowSource.__getitem__

    def spoiled(self, index):
        window = real(self, index)
        if len(self) > 20 and index == 0:  # once an epoch
            window["embedding"] = np.full_like(window["embedding"], np.nan)
        return window

    monkeypatch.setattr(WindowSource, "__getitem__", spoiled)
    config.optimizer.steps = 9  # more than an epoch of 30 to 40 windows
    train(config, tmp_path / "run", progress=False)
    rows = [r for r in read_metrics(tmp_path / "run") if r["split"] == "train"]
    assert rows[-1]["skipped"] == 1
    assert all(np.isfinite(leaf).all() for leaf in leaves(tmp_path / "run", 9))
    config.guards.max_skipped = 0
    with pytest.raises(NonFiniteLossError, match=r"1 updates.*max_skipped is 0"):
        train(config, tmp_path / "other", progress=False)

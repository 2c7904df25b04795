"""The same losses on one device, on eight, split and whole, and in several processes."""

import json
import shutil

import jax
import numpy as np
import processes
import pytest
import small

from rt1_jax.checkpoints import native
from rt1_jax.training.metrics import read_metrics
from rt1_jax.training.workdir import checkpoint_path

STEPS = 5
CHANGES = {
    "batch_size": 8,
    "optimizer.steps": STEPS,
    "log_every": 1,
    "checkpoint_every": 3,
    "mesh.shard_from": 64,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small.make_dataset(tmp_path_factory.mktemp("data") / "data", lengths=(9, 8, 8, 7, 9, 5))


@pytest.fixture(scope="module")
def losses(dataset):
    out = processes.finish(processes.start("mesh_losses.py", dataset, STEPS, devices=8), 600)
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("name", ["8 data", "8 fsdp", "4 x 2"])
def test_a_mesh_changes_nothing(losses, name):
    assert len(losses[name]) == STEPS
    np.testing.assert_allclose(losses[name], losses["one device"], rtol=1e-5)


def test_nor_does_it_with_accumulation(losses):
    one, several = losses["accumulated, one device"], losses["accumulated, 2 x 2"]
    np.testing.assert_allclose(several, one, rtol=1e-5)
    # Statistics of halves of the batch and other dropout: near the whole batch, and not it.
    np.testing.assert_allclose(one, losses["one device"], rtol=0.05)
    assert one != losses["one device"]


def test_statistics_of_replicas_are_others(losses):
    of_replicas, of_all = losses["statistics of four replicas"], losses["one device"]
    assert abs(of_replicas[0] - of_all[0]) > 1e-5 * of_all[0]
    np.testing.assert_allclose(of_replicas, of_all, rtol=0.05)


def training_losses(workdir):
    return {r["step"]: r["loss"] for r in read_metrics(workdir) if r["split"] == "train"}


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory):
    """A run in one process, on one device."""
    workdir = tmp_path_factory.mktemp("runs") / "alone"
    processes.finish(processes.start_training(dataset, workdir, CHANGES))
    return workdir


def difference(one, other, step):
    """Of two runs' variables, as a share of their length.

    Not element by element: some biases have no gradient but for rounding, and Adam makes steps of
    full size of it.
    """
    first, second = (
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(native.load_variables(path))])
        for path in (checkpoint_path(one, step), checkpoint_path(other, step))
    )
    return np.linalg.norm(first - second) / np.linalg.norm(first)


def run_two(dataset, workdir, changes, both=({}, {}), **options):
    address = processes.coordinator()
    started = [
        processes.start_training(
            dataset,
            workdir,
            {**CHANGES, **changes, **both[number]},
            cluster=(address, 2, number),
            devices=2,
            **options,
        )
        for number in range(2)
    ]
    ended = [process.communicate(timeout=900) for process in started]
    return [process.returncode for process in started], ended


def test_two_processes_are_one_run(dataset, alone, tmp_path):
    """Trained by two hosts, gone on with by one of four devices, with another mesh."""
    codes, ended = run_two(dataset, tmp_path / "run", {"mesh.fsdp": 2, "optimizer.steps": STEPS})
    assert codes == [0, 0], ended[0][1][-2000:] + ended[1][1][-2000:]
    want, found = training_losses(alone), training_losses(tmp_path / "run")
    assert list(found) == list(want)
    np.testing.assert_allclose(list(found.values()), list(want.values()), rtol=1e-5)
    assert difference(alone, tmp_path / "run", step=3) < 1e-4
    # Its last checkpoint lost, one process goes on from the one before, on another mesh.
    shutil.rmtree(checkpoint_path(tmp_path / "run", 5))
    processes.finish(
        processes.start_training(dataset, tmp_path / "run", {**CHANGES, "mesh.fsdp": 4}, devices=4)
    )
    again = training_losses(tmp_path / "run")
    np.testing.assert_allclose(list(again.values()), list(want.values()), rtol=1e-5)


def test_processes_that_disagree(dataset, tmp_path):
    both = ({}, {"optimizer.learning_rate": 0.5})
    codes, ended = run_two(dataset, tmp_path / "run", {}, both)
    assert all(codes)
    for _, error in ended:
        assert "config.optimizer.learning_rate is 0.003 on process 0 and 0.5 on process 1" in error
    assert not (tmp_path / "run" / "config.json").exists()

"""What becomes of a run when its process, its neighbour or its disk goes away."""

import json
import os
import random
import shutil
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import processes
import pytest
import small

from rt1_jax.checkpoints import native
from rt1_jax.training.metrics import read_metrics
from rt1_jax.training.preemption import RESTART_CODE

STEPS = 120
# A checkpoint every second step: at most moments one is being written.
CHANGES = {"optimizer.steps": STEPS, "checkpoint_every": 2, "log_every": 2}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small.make_dataset(tmp_path_factory.mktemp("data") / "data", lengths=(9, 8, 8, 7, 9, 5))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def whole(dataset, cache, tmp_path_factory):
    """A run that nothing happens to."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    processes.finish(processes.start_training(dataset, workdir, CHANGES, cache=cache))
    return workdir


def assert_same_state(one, other, step=STEPS):
    """All numbers of two train states and averages are the same, bit for bit."""
    trees = []
    for workdir in (one, other):
        path = workdir / "checkpoints" / str(step)
        trees.append(
            [
                native.load_variables(path),
                ocp.StandardCheckpointer().restore((path / "training").absolute()),
                json.loads((path / "iterator.json").read_text()),
            ]
        )
    assert trees[0][2] == trees[1][2]
    first, second = (jax.tree.leaves(tree[:2]) for tree in trees)
    assert len(first) == len(second)
    for x, y in zip(first, second, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def wait_until(happened, seconds=120):
    ends = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.01)


def killed_at_random(dataset, cache, workdir, kills):
    """Kills a run again and again; each time every checkpoint that is there must load."""
    rng = random.Random(0)
    done = 0
    while done < kills:
        before = len(native.list_checkpoints(workdir)) and native.list_checkpoints(workdir)[-1]
        process = processes.start_training(dataset, workdir, CHANGES, cache=cache)
        # Once it writes checkpoints, within the time that a tenth of the run takes.
        goal = before + 2

        def reached(goal=goal, process=process):
            steps = native.list_checkpoints(workdir)
            return process.poll() is not None or (bool(steps) and steps[-1] >= goal)

        wait_until(reached)
        time.sleep(rng.uniform(0, 0.6))
        process.kill()
        process.communicate()
        done += 1
        for step in native.list_checkpoints(workdir):
            native.load_variables(workdir / "checkpoints" / str(step))
        if STEPS in native.list_checkpoints(workdir):
            break  # it was quicker than the kills
    processes.finish(processes.start_training(dataset, workdir, CHANGES, cache=cache))
    return done


def test_a_run_that_is_killed_is_the_uninterrupted_one(dataset, cache, whole, tmp_path):
    assert killed_at_random(dataset, cache, tmp_path / "run", 3) >= 2
    assert_same_state(tmp_path / "run", whole)
    rows = [(r["step"], r["split"]) for r in read_metrics(tmp_path / "run")]
    assert len(rows) == len(set(rows))
    left = [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()]
    assert sorted(left) == [str(STEPS - 2), str(STEPS)]


@pytest.mark.slow
def test_killed_twenty_times(dataset, cache, whole, tmp_path):
    total = 0
    for number in range(10):
        total += killed_at_random(dataset, cache, tmp_path / str(number), 20 - total)
        assert_same_state(tmp_path / str(number), whole)
        if total == 20:
            break
    assert total == 20


def test_told_to_go(dataset, cache, whole, tmp_path):
    """SIGTERM: the step that is done is saved, and the exit code asks for another start.

    Sent to all processes of the job, reading ones, too, as schedulers do.
    """
    workdir = tmp_path / "run"
    changes = {**CHANGES, "checkpoint_every": 1000, "loader.workers": 2}
    process = processes.start_training(dataset, workdir, changes, cache=cache, alone=True)
    wait_until(lambda: (workdir / "metrics.jsonl").exists() and len(read_metrics(workdir)) > 3)
    os.killpg(process.pid, signal.SIGTERM)
    out, error = process.communicate(timeout=60)
    assert process.returncode == RESTART_CODE, error[-2000:]
    summary = json.loads(out.splitlines()[-1])
    assert summary["preempted"]
    saved = native.list_checkpoints(workdir)
    assert saved == [summary["steps"]]
    assert read_metrics(workdir)[-1]["step"] in (saved[-1], saved[-1] - 1)
    processes.finish(processes.start_training(dataset, workdir, changes, cache=cache))
    assert_same_state(workdir, whole)


def test_a_full_disk(dataset, cache, tmp_path):
    """No file may grow beyond 20 kB: arrays do not fit. The run goes on, and says so."""
    workdir = tmp_path / "run"
    changes = {**CHANGES, "optimizer.steps": 8, "checkpoint_every": 4}
    processes.finish(
        processes.start_training(dataset, workdir, {**changes, "keep_checkpoints": 0}, cache=cache)
    )
    # Two more saves, of which the last is the run's end and must not be lost silently.
    shutil.rmtree(workdir / "checkpoints" / "8")
    process = processes.start_training(
        dataset, workdir, {**changes, "checkpoint_every": 1}, cache=cache, LARGEST_FILE="20000"
    )
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "could not be written" in error
    assert "the newest whole checkpoint is 4" in error
    assert native.list_checkpoints(workdir) == [4]
    native.load_variables(workdir / "checkpoints" / "4")
    processes.finish(processes.start_training(dataset, workdir, changes, cache=cache))
    assert native.list_checkpoints(workdir) == [4, 8]


class TestTwoProcesses:
    def start(self, dataset, workdir, cache):
        address = processes.coordinator()
        changes = {**CHANGES, "optimizer.steps": 100_000, "checkpoint_every": 50}
        both = [
            processes.start_training(
                dataset, workdir, changes, cluster=(address, 2, number), cache=cache
            )
            for number in range(2)
        ]
        try:
            wait_until(lambda: bool(native.list_checkpoints(workdir)), seconds=300)
        except BaseException:  # they would go on for ever, and starve the tests after this one
            for process in both:
                process.kill()
            raise
        return both

    @pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
    def test_one_dies(self, dataset, cache, tmp_path, victim):
        both = self.start(dataset, tmp_path / "run", cache)
        both[victim].kill()
        died = time.monotonic()
        _, error = both[1 - victim].communicate(timeout=120)
        assert time.monotonic() - died < 60
        assert both[1 - victim].returncode != 0
        assert "another process" in error or "distributed service" in error, error[-3000:]
        both[victim].communicate()
        for step in native.list_checkpoints(tmp_path / "run"):
            native.load_variables(tmp_path / "run" / "checkpoints" / str(step))

    def test_one_has_an_error_of_its_own(self, dataset, cache, tmp_path):
        """It says what, and neither it nor the other waits for minutes; nobody starts it again."""
        address = processes.coordinator()
        data = [dataset, tmp_path / "not there"]
        started = time.monotonic()
        both = [
            processes.start_training(
                data[number], tmp_path / "run", CHANGES, cluster=(address, 2, number), cache=cache
            )
            for number in range(2)
        ]
        _, error = both[1].communicate(timeout=120)
        assert both[1].returncode == 1
        assert "no dataset directory" in error
        both[0].communicate(timeout=120)
        assert both[0].returncode not in (0, RESTART_CODE)
        assert time.monotonic() - started < 120

    @pytest.mark.slow
    def test_one_is_told_to_go(self, dataset, cache, tmp_path):
        """Both save at the same step, and end alike."""
        both = self.start(dataset, tmp_path / "run", cache)
        os.kill(both[1].pid, signal.SIGTERM)
        ended = [process.communicate(timeout=120) for process in both]
        assert [process.returncode for process in both] == [RESTART_CODE] * 2, ended
        steps = [json.loads(out.splitlines()[-1])["steps"] for out, _ in ended]
        assert steps[0] == steps[1] == native.list_checkpoints(tmp_path / "run")[-1]

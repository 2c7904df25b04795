"""Sweeps: what is done, what is not done again, and what is said of a run that fails."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from ml_collections import ConfigDict
from small import make_dataset, small_config

import rt1_jax.analysis.timing
import rt1_jax.evaluation.run
import rt1_jax.policies.load
import rt1_jax.training.loop
from rt1_jax.analysis import sweep
from rt1_jax.analysis.experiment import ensure_data
from rt1_jax.analysis.sweep import Finished, Missing, Run, read, run_sweep
from rt1_jax.checkpoints import native


def make_run(seed=0, episodes=100, splits=("seen",), **changes):
    config = {"name": "tiny", "seed": seed, "rate": 0.1, "log_every": 5, "loader": {"workers": 0}}
    return Run(ConfigDict(config | changes), splits=splits, episodes=episodes)


def write_run(root, run, successes=3):
    home = root / run.name
    (home / run.evaluation).mkdir(parents=True, exist_ok=True)
    (home / "training.json").write_text(json.dumps({"summary": {"parameters": 7}, "step_ms": 1.5}))
    numbers = {"successes": successes, "episodes": run.episodes, "success_rate": 0.5}
    summary = {"policy": {split: {"all": numbers} for split in run.splits}}
    results = {"closed_loop": {"summary": summary, "episodes": []}}
    (home / run.evaluation / "results.json").write_text(json.dumps(results))


@pytest.fixture
def executed(monkeypatch):
    """Runs come to their end at once; gives their names and cores."""
    done = []

    def execute(run, root, cores, children):
        done.append((run.name, run.evaluation, tuple(cores)))
        write_run(root, run)

    monkeypatch.setattr(sweep, "_execute", execute)
    return done


def test_a_name_is_of_the_config_and_nothing_else():
    run = make_run()
    assert run.name == "tiny-s0-bb87ec711d"  # runs are found again by it: it must not change
    assert run.name == make_run(episodes=7, splits=("unseen_tasks",)).name
    for free in ({"log_every": 6}, {"loader": {"workers": 2}}, {"checkpoint_every": 9}):
        assert make_run(**free).name == run.name
    others = [make_run(seed=1), make_run(rate=0.2), make_run(name="other"), make_run(more=1)]
    assert len({run.name, *(other.name for other in others)}) == 5


def test_an_evaluation_is_named_by_what_is_evaluated():
    run = make_run()
    assert make_run(seed=1).evaluation == run.evaluation
    assert len({run.evaluation, make_run(episodes=7).evaluation,
                make_run(splits=("seen", "unseen_tasks")).evaluation}) == 3  # fmt: skip


def test_what_is_finished_is_not_done_again(tmp_path, executed):
    runs = [make_run(seed) for seed in range(4)]
    write_run(tmp_path, runs[1], successes=42)
    results = run_sweep(runs, tmp_path, progress=False)
    assert [r.run for r in results] == runs
    assert sorted(name for name, *_ in executed) == sorted(runs[i].name for i in (0, 2, 3))
    assert results[1].summary("seen")["successes"] == 42
    assert results[1].training == {"parameters": 7}
    assert results[1].step_ms == 1.5
    run_sweep(runs, tmp_path, progress=False)
    assert len(executed) == 3


def test_a_run_asked_for_twice_is_done_once(tmp_path, executed):
    results = run_sweep([make_run(), make_run(log_every=9)], tmp_path, progress=False)
    assert len(executed) == 1
    assert all(isinstance(result, Finished) for result in results)


def test_two_evaluations_of_a_policy_follow_each_other(tmp_path, monkeypatch):
    busy, overlaps = set(), []

    def execute(run, root, cores, children):
        overlaps.append(run.name in busy)
        busy.add(run.name)
        time.sleep(0.02)
        write_run(root, run)
        busy.discard(run.name)

    monkeypatch.setattr(sweep, "_execute", execute)
    monkeypatch.setattr(sweep, "_shares", lambda parallel: [[] for _ in range(parallel)])
    runs = [make_run(seed, episodes) for episodes in (5, 6, 7) for seed in (0, 1)]
    results = run_sweep(runs, tmp_path, parallel=4, progress=False)
    assert overlaps == [False] * 6
    assert all(isinstance(result, Finished) for result in results)


def test_runs_side_by_side_have_cores_of_their_own(tmp_path, monkeypatch):
    together, lock, seen = {}, threading.Lock(), []

    def execute(run, root, cores, children):
        with lock:
            assert tuple(cores) not in together.values()
            together[run.name] = tuple(cores)
        time.sleep(0.01)
        with lock:
            seen.append(together.pop(run.name))
        write_run(root, run)

    monkeypatch.setattr(sweep, "_execute", execute)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False)
    run_sweep([make_run(seed) for seed in range(9)], tmp_path, parallel=2, progress=False)
    assert set(seen) == {(0, 2, 4), (1, 3)}


def test_a_run_that_fails_is_missing_with_its_last_line_and_the_others_are_read(
    tmp_path, monkeypatch
):
    bad, good, silent = make_run(1), make_run(2), make_run(3)

    def execute(run, root, cores, children):
        (root / run.name).mkdir()
        (root / run.name / "log.txt").write_text("Traceback\n  ...\nValueError: no disk\n\n")
        if run == silent:
            (root / run.name / "log.txt").write_text("")
        if run == good:
            write_run(root, run)

    monkeypatch.setattr(sweep, "_execute", execute)
    results = run_sweep([bad, good, silent], tmp_path, progress=False)
    assert results[0] == Missing(bad, "ValueError: no disk")
    assert isinstance(results[1], Finished)
    assert results[2] == Missing(silent, "it printed nothing")


def test_more_runs_side_by_side_than_cores_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    with pytest.raises(ValueError, match="3 runs side by side need as many cores, there are 2"):
        run_sweep([make_run()], tmp_path, parallel=3, progress=False)
    with pytest.raises(ValueError, match="at least one"):
        run_sweep([make_run()], tmp_path, parallel=0, progress=False)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"closed_loop": null}'])
def test_damaged_files_count_as_missing(tmp_path, content):
    run = make_run()
    write_run(tmp_path, run)
    assert read(run, tmp_path) is not None
    for name in ("training.json", f"{run.evaluation}/results.json"):
        write_run(tmp_path, run)
        (tmp_path / run.name / name).write_text(content)
        assert read(run, tmp_path) is None, name


@pytest.fixture
def half_trained(monkeypatch):
    """`complete` trains and evaluates nothing, and finds its training told to go, once."""
    ends, evaluated = [{"preempted": True}, {"preempted": False, "loss": 1.7}], []
    monkeypatch.setattr(rt1_jax.training.loop, "train", lambda *_, **__: ends.pop(0))
    monkeypatch.setattr(rt1_jax.policies.load, "load_policy", lambda root: None)
    monkeypatch.setattr(rt1_jax.analysis.timing, "step_milliseconds", lambda policy: 1.5)
    monkeypatch.setattr(rt1_jax.evaluation.run, "evaluate", lambda *a, **_: evaluated.append(a[1]))
    return evaluated


def test_half_a_training_is_neither_evaluated_nor_finished(tmp_path, half_trained):
    run = make_run()
    (tmp_path / run.name).mkdir()
    assert not sweep.complete(run, tmp_path)
    assert half_trained == []
    assert not (tmp_path / run.name / "training.json").exists()
    assert sweep.complete(run, tmp_path)
    assert half_trained == [run.name]
    assert sweep.complete(run, tmp_path)  # trained no more


def test_half_a_training_that_was_taken_for_finished_is_done_again(tmp_path, half_trained):
    """With all evaluations: they are of what was half trained."""
    run, other = make_run(), make_run(episodes=7)
    for one in (run, other):
        write_run(tmp_path, one)
    content = {"summary": {"preempted": True, "parameters": 7}, "step_ms": 1.5}
    (tmp_path / run.name / "training.json").write_text(json.dumps(content))
    assert read(run, tmp_path) is None
    assert not sweep.complete(run, tmp_path)
    assert sweep.complete(run, tmp_path)
    assert read(run, tmp_path) is None  # `evaluate` writes nothing here
    assert read(other, tmp_path) is None
    write_run(tmp_path, run)
    assert isinstance(read(run, tmp_path), Finished)


def fake_main(monkeypatch, tmp_path, code):
    """Makes `_execute`'s child run `code`, with root and name as arguments."""
    (tmp_path / "child.py").write_text(code)
    real = subprocess.Popen

    def start(command, **options):
        return real([sys.executable, str(tmp_path / "child.py"), *command[3:]], **options)

    monkeypatch.setattr(sweep.subprocess, "Popen", start)


def test_a_process_that_is_killed_is_said_to_be(tmp_path, monkeypatch):
    fake_main(
        monkeypatch, tmp_path, "import os; print('step 3', flush=True); os.kill(os.getpid(), 9)"
    )
    (result,) = run_sweep([make_run()], tmp_path / "runs", progress=False)
    assert result.reason == "ended by signal 9"
    log = (tmp_path / "runs" / make_run().name / "log.txt").read_text()
    assert log == "step 3\n\nended by signal 9\n"


def test_an_interruption_ends_the_processes_and_starts_no_more(tmp_path, monkeypatch):
    fake_main(
        monkeypatch, tmp_path,
        "import sys, time, pathlib\n"
        "pathlib.Path(sys.argv[1], sys.argv[2], 'started').touch()\n"
        "time.sleep(120)\n",
    )  # fmt: skip
    runs = [make_run(seed, episodes) for episodes in (5, 6) for seed in (0, 1)]
    real = sweep.concurrent.futures.ThreadPoolExecutor.map

    def interrupted(self, *arguments):
        results = real(self, *arguments)
        deadline = time.monotonic() + 60
        while not list((tmp_path / "runs").glob("*/started")) and time.monotonic() < deadline:
            time.sleep(0.05)
        results.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep.concurrent.futures.ThreadPoolExecutor, "map", interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(runs, tmp_path / "runs", progress=False)
    assert time.monotonic() - started < 60
    assert len(list((tmp_path / "runs").glob("*/started"))) == 1


def test_a_process_that_does_not_end_when_it_is_told_to_is_killed(tmp_path, monkeypatch):
    fake_main(
        monkeypatch, tmp_path,
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path(sys.argv[1], sys.argv[2], 'started').touch()\n"
        "time.sleep(120)\n",
    )  # fmt: skip
    monkeypatch.setattr(sweep, "_GRACE", 0.2)
    started = time.monotonic()
    interrupt_when_there_is(tmp_path / "runs", "*/started", [make_run()])
    assert time.monotonic() - started < 60
    log = (tmp_path / "runs" / make_run().name / "log.txt").read_text()
    assert log == "\nended by signal 9\n"


def interrupt_when_there_is(root, pattern, runs):
    """Sweeps until a file is there, then has SIGINT sent to this process, not to its children."""
    over = threading.Event()

    def interrupt():
        while not over.wait(0.05):
            if list(root.glob(pattern)):
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=interrupt)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # xdist's workers ignore it
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_sweep(runs, root, progress=False)
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, former)


def test_an_interrupted_training_saves_and_is_not_taken_for_finished(tmp_path):
    """For real, up to the evaluation, which must not begin. It is told to go after compiling."""
    run = Run(small_config(make_dataset(tmp_path / "data"), steps=100_000))
    interrupt_when_there_is(tmp_path / "runs", "*/checkpoints/[0-9]*", [run])
    home = tmp_path / "runs" / run.name
    assert len(native.list_checkpoints(home)) >= 1
    assert not (home / "training.json").exists()
    last = (home / "log.txt").read_text().splitlines()[-1]
    assert last == f"told to go: saved in {home}; the next sweep goes on with it"


def test_a_second_sweep_waits_for_the_first_and_finds_its_run(tmp_path, monkeypatch):
    run = make_run()
    write_run(tmp_path / "made", run)
    source = tmp_path / "made" / run.name
    fake_main(
        monkeypatch, tmp_path,
        "import sys, time, shutil, pathlib\n"
        "home = pathlib.Path(sys.argv[1], sys.argv[2])\n"
        "(home / 'started').open('a').write('x')\n"
        "time.sleep(0.5)\n"
        f"shutil.copytree({str(source)!r}, home, dirs_exist_ok=True)\n",
    )  # fmt: skip
    results = []
    sweeps = [
        threading.Thread(
            target=lambda: results.extend(run_sweep([run], tmp_path / "runs", progress=False))
        )
        for _ in range(2)
    ]
    for thread in sweeps:
        thread.start()
    for thread in sweeps:
        thread.join()
    assert [type(result) for result in results] == [Finished, Finished]
    assert (tmp_path / "runs" / run.name / "started").read_text() == "x"


def test_a_request_of_another_run_is_refused(tmp_path):
    run, other = make_run(), make_run(1)
    for one in (run, other):
        (tmp_path / one.name).mkdir()
    request = {"config": other.config.to_dict(), "splits": ["seen"], "skills": ["all"]}
    request |= {"episodes": 100, "controls": [], "cores": []}
    (tmp_path / run.name / "request.json").write_text(json.dumps(request))
    with pytest.raises(ValueError, match=f"is of {other.name}"):
        sweep._main(str(tmp_path), run.name)


@pytest.mark.slow
def test_a_run_is_trained_and_evaluated_for_real_and_goes_on_where_it_stopped(tmp_path):
    data = ConfigDict({"directory": str(tmp_path / "data"), "skills": ("pick",), "seed": 0})
    data.update(episodes=6, image_size=(16, 20))
    ensure_data(data, progress=False)
    config = small_config(tmp_path / "data")
    run = Run(config, skills=("pick",), episodes=2)
    (result,) = run_sweep([run], tmp_path / "runs", progress=False)
    assert isinstance(result, Finished), result
    assert result.training["steps"] == 8
    assert result.step_ms > 0
    assert result.summary("seen")["episodes"] == 2
    assert result.summary("seen", "wrong_instruction", "pick")["episodes"] == 2
    # Another evaluation of the same policy does not train it again.
    before = (tmp_path / "runs" / run.name / "training.json").stat().st_mtime_ns
    (more,) = run_sweep([Run(config, skills=("pick",), episodes=1)], tmp_path / "runs")
    assert more.summary("seen")["episodes"] == 1
    assert (tmp_path / "runs" / run.name / "training.json").stat().st_mtime_ns == before

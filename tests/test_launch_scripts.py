"""The launch scripts do what they say, with stand-ins for gcloud and SLURM's commands."""

import json
import os
import pathlib
import subprocess

import processes
import pytest
import small

from rt1_jax.checkpoints import native

SCRIPTS = pathlib.Path(__file__).parents[1] / "scripts"


def run(script, *arguments, tools=None, **environment):
    path = f"{tools}:{os.environ['PATH']}" if tools else os.environ["PATH"]
    return subprocess.run(
        ["bash", str(SCRIPTS / script), *arguments],
        env={**os.environ, "PATH": path, "PAUSE": "0", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def stand_in(directory, name, body):
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def test_the_commands_for_a_tpu_pod():
    found = run(
        "tpu_pod.sh", "train", "--config=configs/rt1.py", "--workdir=gs://b/a b", DRY_RUN="1"
    )
    assert found.returncode == 0, found.stderr
    assert "gcloud compute tpus tpu-vm ssh rt1 --zone=us-west4-a --worker=all" in found.stdout
    assert "train.py" in found.stdout
    assert run("tpu_pod.sh", "nothing").returncode == 2
    created = run("tpu_pod.sh", "create", DRY_RUN="1", TYPE="v4-32", SPOT="0").stdout
    assert "--accelerator-type=v4-32" in created
    assert "--spot" not in created


GCLOUD = """
echo "$*" >> calls
case "$*" in
  *"--format=yaml(state)"*) echo "message: there is no quota for it" ;;
  *describe*)
    echo "WARNING: gcloud is old" >&2
    read -r first rest < states
    if [ "$rest" ]; then echo "$rest" > states; fi
    case $first in
      UNREACHABLE) echo "ERROR: connection reset" >&2; exit 1 ;;
      NONE) echo "ERROR: (gcloud) NOT_FOUND: Resource 'rt1' was not found." >&2; exit 1 ;;
      *) echo "$first" ;;
    esac ;;
  *"queued-resources create"*) rm -f installed; cat created > states ;;
  *"queued-resources delete"*) echo NONE > states ;;
  *"git clone"*) touch installed ;;
  *"test -e"*) [ -e installed ] ;;
  *"/checkpoints "*) ls checkpoints | tail -n 1 ;;
  *train.py*)
    read -r first rest < codes; echo "$rest" > codes
    if [ "$first" = 255 ]; then echo SUSPENDED > states; fi
    if [ "$first" = saved ]; then touch checkpoints/$(ls checkpoints | wc -l); exit 75; fi
    exit "$first" ;;
esac
"""


@pytest.fixture
def pod(tmp_path):
    """`tpu_pod.sh run` with a gcloud that tells `states` one after another, the last for ever.

    `codes` are what the trainings end with; 255 takes the slice away, "saved" is 75 and a newer
    checkpoint. Gives what has run, and the calls of gcloud.
    """

    def run_pod(states, codes, created="ACTIVE", installed=True, **environment):
        for name, content in {"states": states, "codes": codes, "created": created}.items():
            (tmp_path / name).write_text(content + "\n")
        (tmp_path / "checkpoints").mkdir()
        if installed:
            (tmp_path / "installed").touch()
        stand_in(tmp_path / "bin", "gcloud", f"cd {tmp_path}\n{GCLOUD}")
        found = run(
            *("tpu_pod.sh", "run", "--workdir=a b"), tools=tmp_path / "bin",
            **{"REPOSITORY": "https://host/r", **environment},
        )  # fmt: skip
        return found, (tmp_path / "calls").read_text()

    return run_pod


def counts(calls):
    """(slices deleted, slices created, installations, trainings)"""
    parts = ("queued-resources delete", "queued-resources create", "git clone", "train.py")
    return tuple(calls.count(part) for part in parts)


@pytest.mark.parametrize(("codes", "ended"), [("75 134 255 0", 0), ("75 1", 1)])
def test_a_pod_is_started_again_while_it_is_preempted(pod, codes, ended):
    """75: saved; 134: a host without its neighbour; 255: a slice that is gone; 1: an error."""
    found, calls = pod("ACTIVE", codes)
    assert found.returncode == ended, found.stderr
    gone = codes.count("255")
    assert counts(calls) == (gone, gone, gone, len(codes.split()))


def test_a_slice_that_gcloud_cannot_tell_of_is_not_deleted(pod):
    found, calls = pod("UNREACHABLE UNREACHABLE ACTIVE", "0")
    assert found.returncode == 0, found.stderr
    assert "(try 2 of 10): WARNING: gcloud is old\nERROR: connection reset" in found.stderr
    assert counts(calls) == (0, 0, 0, 1)


def test_gcloud_is_not_asked_for_ever(pod):
    found, calls = pod("UNREACHABLE", "0", TRIES="3")
    assert found.returncode == 1
    assert "nothing was changed; once gcloud answers" in found.stderr
    assert calls.count("describe") == 3
    assert counts(calls) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("ACCEPTED WAITING_FOR_RESOURCES PROVISIONING CREATING ACTIVE", (0, 0, 0, 1)),
        ("SUSPENDING SUSPENDED", (1, 1, 1, 1)),
        ("DELETING NONE", (0, 1, 1, 1)),
    ],
)
def test_what_is_on_its_way_is_waited_for(pod, states, expected):
    found, calls = pod(states, "0")
    assert found.returncode == 0, found.stderr
    assert counts(calls) == expected


def test_a_refused_slice_is_not_waited_for(pod):
    found, calls = pod("NONE", "0", created="ACCEPTED FAILED")
    assert found.returncode == 1
    assert "message: there is no quota for it" in found.stderr
    assert "tpu_pod.sh delete" in found.stderr
    assert counts(calls) == (0, 1, 0, 0)


def test_a_slice_without_the_marker_is_installed_on(pod):
    """It was made by `create`, or its installation was interrupted."""
    found, calls = pod("ACTIVE", "75 0", installed=False)
    assert found.returncode == 0, found.stderr
    assert counts(calls) == (0, 0, 1, 2)
    (install,) = [line for line in calls.splitlines() if "git clone" in line]
    marker = "/tmp/rt1_installed.$USER"
    assert f"--command=rm -f {marker} && " in install
    assert f"&& touch {marker}" in calls.split("git clone")[1].split("compute tpus")[0]


def test_a_run_that_comes_no_further_is_not_started_for_ever(pod):
    found, calls = pod("ACTIVE", "saved 75 75 75 75 75", RESTARTS="2")
    assert found.returncode == 1
    assert "started again 2 times without a newer checkpoint than 0" in found.stderr
    assert counts(calls) == (0, 0, 0, 4)
    assert "--worker=0 --command=cd rt1_jax && ls a\\ b/checkpoints 2>/dev/null" in calls


def test_a_run_that_comes_further_is_started_as_often_as_it_takes(pod):
    found, calls = pod("ACTIVE", "75 saved 75 saved 75 saved 0", RESTARTS="1")
    assert found.returncode == 0, found.stderr
    assert counts(calls) == (0, 0, 0, 7)


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (134, True), (0, False), (1, False)])
def test_a_slurm_job_is_queued_again(tmp_path, code, requeued):
    stand_in(tmp_path / "bin", "srun", f'echo "$@" > {tmp_path}/srun; exit {code}')
    stand_in(tmp_path / "bin", "scontrol", f'echo "$@" > {tmp_path}/scontrol')
    workdir = tmp_path / "w"
    found = run("slurm.sbatch", f"--workdir={workdir}", tools=tmp_path / "bin", SLURM_JOB_ID="17")
    assert found.returncode == code
    assert f"train.py --workdir={workdir}" in (tmp_path / "srun").read_text()
    assert (tmp_path / "scontrol").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol").read_text() == "requeue 17\n"


def test_a_slurm_job_that_comes_no_further_is_not_queued_for_ever(tmp_path):
    workdir = tmp_path / "w"
    (workdir / "checkpoints").mkdir(parents=True)
    stand_in(tmp_path / "bin", "srun", f"mkdir {workdir}/checkpoints/$SAVES; exit 75")
    stand_in(tmp_path / "bin", "scontrol", f"echo again >> {tmp_path}/scontrol")

    def queued(start, saves="."):  # "." is there already
        found = run(
            "slurm.sbatch", "--workdir", str(workdir), tools=tmp_path / "bin", RESTARTS="1",
            SLURM_JOB_ID="17", SLURM_RESTART_COUNT=str(start), SAVES=saves,
        )  # fmt: skip
        if found.returncode == 1:
            assert "2 starts without a newer checkpoint than 10: not queued again" in found.stdout
        return found.returncode == 75

    assert [queued(0), queued(1, "9"), queued(2), queued(3, "10"), queued(4)] == [True] * 5
    assert not queued(5)
    assert len((tmp_path / "scontrol").read_text().split()) == 5
    assert queued(0)  # submitted again by hand


def test_two_tasks_of_slurm_find_each_other(tmp_path):
    """By the variables that SLURM sets, without any flag."""
    dataset = small.make_dataset(tmp_path / "data")
    changes = {"optimizer.steps": 4}
    tasks = [
        processes.start_training(
            dataset,
            tmp_path / "run",
            changes,
            SLURM_JOB_ID=str(os.getpid()),
            SLURM_STEP_NODELIST="localhost",
            SLURM_NTASKS="2",
            SLURM_PROCID=str(number),
            SLURM_LOCALID=str(number),
        )
        for number in range(2)
    ]
    ended = [json.loads(processes.finish(task).splitlines()[-1]) for task in tasks]
    assert [task["processes"] for task in ended] == [2, 2]
    assert native.list_checkpoints(tmp_path / "run") == [4]

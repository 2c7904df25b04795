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


@pytest.mark.parametrize(("codes", "ended"), [("75 255 0", 0), ("75 1", 1)])
def test_a_pod_is_started_again_while_it_is_preempted(tmp_path, codes, ended):
    """75 is a saved run, 255 a slice that is gone; 1 is an error of the training."""
    (tmp_path / "codes").write_text(codes + "\n")
    (tmp_path / "state").write_text("ACTIVE")
    stand_in(
        tmp_path / "bin",
        "gcloud",
        f"""cd {tmp_path}
echo "$*" >> calls
case "$*" in
  *describe*) cat state ;;
  *"queued-resources create"*) echo ACTIVE > state ;;
  *train.py*) read -r first rest < codes; echo "$rest" > codes
     if [ "$first" = 255 ]; then echo SUSPENDED > state; fi
     exit "$first" ;;
esac""",
    )
    found = run(
        "tpu_pod.sh", "run", "--workdir=w", tools=tmp_path / "bin", REPOSITORY="https://host/r"
    )
    assert found.returncode == ended, found.stderr
    calls = (tmp_path / "calls").read_text()
    assert calls.count("train.py") == len(codes.split())
    assert calls.count("queued-resources create") == codes.count("255")
    assert calls.count("git clone") == codes.count("255")


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (0, False), (1, False)])
def test_a_slurm_job_is_queued_again(tmp_path, code, requeued):
    stand_in(tmp_path / "bin", "srun", f'echo "$@" > {tmp_path}/srun; exit {code}')
    stand_in(tmp_path / "bin", "scontrol", f'echo "$@" > {tmp_path}/scontrol')
    found = run("slurm.sbatch", "--workdir=w", tools=tmp_path / "bin", SLURM_JOB_ID="17")
    assert found.returncode == code
    assert "train.py --workdir=w" in (tmp_path / "srun").read_text()
    assert (tmp_path / "scontrol").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol").read_text() == "requeue 17\n"


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

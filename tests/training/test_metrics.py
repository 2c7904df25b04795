"""A run's numbers on the disk, and a disk that is full."""

import json
import os
import resource
import subprocess
import sys

from rt1_jax.training.metrics import MetricsWriter, read_metrics


def test_a_run_that_goes_on_has_each_step_once(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    for step in (1, 2, 3):
        writer.write(step, "train", {"loss": 1.0 / step})
    writer.close()
    writer = MetricsWriter(tmp_path, 2)
    writer.write(3, "train", {"loss": 7.0})
    writer.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [
        (1, 1.0),
        (2, 0.5),
        (3, 7.0),
    ]


def test_a_full_disk_costs_rows_and_not_the_run(tmp_path, capsys):
    writer = MetricsWriter(tmp_path, 0)
    writer.write(1, "train", {"loss": 1.0})
    full = open("/dev/full", "a")  # noqa: SIM115 (the writer closes it)
    writer._file.close()
    writer._file = full
    for step in (2, 3):
        writer.write(step, "train", {"loss": 1.0})
    writer.close()
    assert capsys.readouterr().err.count("No space left") == 1
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


def test_a_start_on_a_full_disk_keeps_the_rows(tmp_path):
    """In a process whose files may not grow beyond a kilobyte."""
    writer = MetricsWriter(tmp_path, 0)
    for step in range(100):
        writer.write(step, "train", {"loss": 1.0})
    writer.close()
    before = (tmp_path / "metrics.jsonl").read_text()
    program = (
        "import pathlib, resource, signal, sys\n"
        "from rt1_jax.training.metrics import MetricsWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (1024, {resource.RLIM_INFINITY}))\n"
        "MetricsWriter(pathlib.Path(sys.argv[1]), 1000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "OSError" in done.stderr
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert len(before.splitlines()) == 100
    assert [path for path in os.listdir(tmp_path) if "partial" in path] == []


def test_a_line_that_was_cut_off_ends_the_list(tmp_path):
    rows = [json.dumps({"step": step, "split": "train"}) for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text(rows[0] + "\n" + rows[1][:-3])
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]

"""The fit check: what it counts, what it says of what does not fit, its command."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest
from small import small_config

from rt1_jax.actions import RT1
from rt1_jax.training import fit_measure
from rt1_jax.training.chips import CHIPS, GIB
from rt1_jax.training.fit import check, parse_image_size
from rt1_jax.training.fit_largest import find_largest, guess_largest, line_through
from rt1_jax.training.fit_measure import FitError, measure, spec_for
from rt1_jax.training.fit_report import format_comparison, format_report
from rt1_jax.training.libtpu_environment import ordinary_scheduling
from rt1_jax.training.topology import Topology


@pytest.fixture(autouse=True)
def scheduling():
    """No test leaves this process in another scheduling class than it found."""
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before


ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUIRED = {"temp_bytes", "traffic_bytes", "flops", "collectives"}

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="no libtpu: pip install 'rt1_jax[fit]'"
)


def config_of(**changes):
    """A small run with AdamW, which compiles faster than Muon."""
    config = small_config(pathlib.Path("no data"))
    config.optimizer.muon_rms = 0.0
    config.update_from_flattened_dict(changes)
    return config


def config_file(path: pathlib.Path) -> pathlib.Path:
    text = f"from ml_collections import ConfigDict\nCONFIG = {config_of().to_dict()!r}\n"
    path.write_text(text + "def get_config():\n    return ConfigDict(CONFIG)\n")
    return path


def run_fit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which fails if TensorFlow was imported."""
    code = (
        "import runpy, sys\n"
        "sys.argv[0] = 'fit'\n"
        "try:\n    runpy.run_module('rt1_jax.training.fit', run_name='__main__')\n"
        "finally:\n    assert 'tensorflow' not in sys.modules\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


# ---- The command.


@needs_libtpu
def test_a_small_run_on_four_chips(tmp_path):
    file = config_file(tmp_path / "small.py")
    output = tmp_path / "out" / "fit.json"
    done = run_fit(
        f"--config={file}", "--topology=v5e:2x2", "--image_size=16,20", f"--json={output}"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    assert report.keys() >= REQUIRED
    assert (report["devices"], report["batch_size"], report["per_device_batch"]) == (4, 4, 1)
    assert report["fits"]
    assert report["chip_bytes"] == CHIPS["v5e"].usable_bytes
    assert report["bound"] in ("memory", "compute", "interconnect")
    gradients = report["collectives"]["all-reduce"]
    assert gradients["bytes"] >= 4 * report["parameters"]
    assert report["memory_bytes"] == (
        report["argument_bytes"]
        + report["temp_bytes"]
        + report["output_bytes"]
        - report["alias_bytes"]
    )
    assert report["alias_bytes"] > 0  # the state is donated
    assert "windows/s at most" in done.stdout
    assert "bound by" in done.stdout
    assert [p.name for p in output.parent.iterdir()] == ["fit.json"]


@needs_libtpu
def test_a_batch_that_does_not_fit(tmp_path):
    file = config_file(tmp_path / "small.py")
    output = tmp_path / "fit.json"
    done = run_fit(
        f"--config={file}",
        "--topology=v5e:2x2",
        "--per_device_batch=40000",
        f"--json={output}",
    )
    assert done.returncode == 1
    assert "GiB needed a chip, 15.75 GiB there" in done.stdout
    assert "helps: step.remat" in done.stdout
    assert "helps: step.accumulate=2" in done.stdout
    assert "helps: step.compute=bfloat16" in done.stdout
    assert "Traceback" not in done.stderr
    report = json.loads(output.read_text())
    assert report["short_bytes"] == report["memory_bytes"] - report["chip_bytes"] > 0
    assert report.keys() >= REQUIRED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v9:2x2"], "unknown topology 'v9:2x2': known are v4:{"),
        (["--topology=cpu:3"], "batch_size is 4, which 3 devices can't share: take 3 or 6"),
        (["--topology=cpu:1", "--image_size=16x20"], "--image_size is '16x20', expected"),
        (["--topology=cpu:2", "--config.mesh.fsdp=3"], "mesh"),
        (["--topology=cpu:1", "--per_device_batch=-2"], "--per_device_batch is -2"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    done = run_fit(f"--config={config_file(tmp_path / 'small.py')}", *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"rt1_jax.training.fit: {message}" in done.stderr


# ---- Counting.


def test_on_a_cpu_there_is_no_chip_to_fit():
    report = check(config_of(), "cpu:1", image_size=(16, 20))
    assert report.keys() >= REQUIRED
    assert report["fits"]
    assert report["chip_bytes"] is report["bound"] is report["largest"] is None
    assert report["collectives"] == {}
    assert report["temp_bytes"] > 0
    assert report["flops"] > 0
    assert "small on cpu:1, 1 devices" in format_report(report)


def test_accumulation_is_counted_as_often_as_it_runs():
    batch = {"batch_size": 8}
    whole = check(config_of(**batch), "cpu:1", image_size=(16, 20))
    parts = check(config_of(**batch, **{"step.accumulate": 4}), "cpu:1", image_size=(16, 20))
    assert parts["loops"]["corrected"]
    assert parts["flops"] == pytest.approx(whole["flops"], rel=0.25)
    assert parts["loops"]["flops_as_xla_counts"] < whole["flops"] / 2
    assert parts["temp_bytes"] < whole["temp_bytes"]


def test_the_config_is_left_alone():
    config = config_of()
    before = config.to_dict()
    with pytest.raises(FitError):
        measure(config, Topology("cpu:1", "cpu", (), None), image_size=(8, 8), per_device_batch=-1)
    assert config.to_dict() == before


def test_actions_as_the_model_has_them():
    config = config_of()
    assert spec_for(config.model).action_tokens == config.model.action_tokens
    config.model.action_tokens, config.model.bins = 5, 32
    spec = spec_for(config.model)
    assert (spec.action_tokens, spec.bins) == (5, 32)
    config.model.action_tokens = RT1.action_tokens
    assert spec_for(config.model).field_names == RT1.field_names


def test_image_sizes():
    assert parse_image_size("256,320") == (256, 320)
    with pytest.raises(ValueError, match="256,320"):
        parse_image_size("256")


# ---- XLA's errors.


def failing(monkeypatch, message):
    def compile_():
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(
        fit_measure, "_lower", lambda *_: (SimpleNamespace(compile=compile_), 35_000_000, 0.0)
    )
    devices = tuple(range(16))
    topology = Topology("v5e:4x4", "tpu", devices, CHIPS["v5e"])
    return measure(config_of(), topology, image_size=(256, 320), per_device_batch=8)


@pytest.mark.parametrize(
    "message",
    [
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (17.50G) exceeds available HBM (15.75G). HLO module: jit_x.",
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space "
        "hbm. Used 17.50G of 15.75G hbm. Exceeded hbm capacity by 1.75G.",
    ],
)
def test_what_xla_says_is_needed(monkeypatch, message):
    report = failing(monkeypatch, message)
    assert not report["fits"]
    assert report["memory_bytes"] == 17.5 * GIB
    assert report["short_bytes"] == 1.75 * GIB
    text = format_report(report)
    assert "17.50 GiB needed a chip, 15.75 GiB there, 1.75 GiB too much" in text
    assert "helps: mesh.fsdp=16" in text
    assert "helps: --per_device_batch=4" in text


def test_xla_says_no_number(monkeypatch):
    report = failing(monkeypatch, "RESOURCE_EXHAUSTED: too large")
    assert "does not fit: RESOURCE_EXHAUSTED: too large" in format_report(report)


def test_other_errors_of_xla(monkeypatch):
    with pytest.raises(FitError, match="does not compile this: UNIMPLEMENTED: sorting"):
        failing(monkeypatch, "UNIMPLEMENTED: sorting")


# ---- The largest batch.


def linear(fixed, slope, chip, limit=None, accumulate=1):
    """A step whose memory is `fixed + slope * batch`, with a cliff beyond `limit`."""
    asked = []

    def measured(batch):
        asked.append(batch)
        memory = fixed + slope * batch + (chip if limit and batch > limit else 0)
        return {
            "per_device_batch": batch,
            "accumulate": accumulate,
            "memory_bytes": memory,
            "temp_bytes": slope * batch,
            "chip_bytes": chip,
            "fits": memory <= chip,
        }

    return measured, asked


def test_the_largest_batch_is_confirmed_by_compiling():
    measured, asked = linear(fixed=100, slope=10, chip=535)
    found = find_largest(measured(8), measured)
    assert (found["per_device_batch"], found["how"]) == (43, "confirmed by compiling there")
    assert (found["fixed_bytes"], found["bytes_a_window"]) == (100, 10)
    assert asked == [8, 4, 43]


def test_a_prediction_that_is_too_large_is_taken_back():
    measured, _ = linear(fixed=100, slope=10, chip=535, limit=40)
    found = find_largest(measured(8), measured)
    assert found["per_device_batch"] == 38
    measured, _ = linear(fixed=100, slope=10, chip=535, limit=5)
    found = find_largest(measured(4), measured)
    assert "not confirmed" in found["how"]


def test_the_largest_batch_is_of_whole_parts():
    measured, _ = linear(fixed=100, slope=10, chip=535, accumulate=4)
    assert find_largest(measured(8), measured)["per_device_batch"] == 40


def test_too_large_a_batch_finds_the_largest_below():
    measured, _ = linear(fixed=100, slope=10, chip=535)
    assert find_largest(measured(64), measured)["per_device_batch"] == 43


def test_without_a_second_compile_it_is_a_guess():
    measured, asked = linear(fixed=100, slope=10, chip=535)
    assert guess_largest(measured(8)) == {
        "per_device_batch": 43,
        "how": "guessed from one compile",
    }
    assert asked == [8]


def test_a_line_must_rise():
    assert line_through((4, 100), (8, 140)) == (60, 10)
    assert line_through((4, 100), (8, 100)) is None
    assert line_through((4, 100), (4, 140)) is None


# ---- Side by side.


def test_two_configs_side_by_side():
    base = {
        "name": "float32",
        "topology": "v5e:4x4",
        "devices": 16,
        "accumulate": 1,
        "batch_size": 128,
        "memory_bytes": 10 * GIB,
        "chip_bytes": 16 * GIB,
        "traffic_bytes": 100e9,
        "seconds": {"memory": 0.12, "compute": 0.004, "interconnect": 0.001},
        "collectives": {"all-reduce": {"instructions": 150, "executions": 150, "bytes": 2_000_000}},
        "bound": "memory",
        "fits": True,
        "help": [],
    }
    half = base | {
        "name": "bfloat16",
        "traffic_bytes": 25e9,
        "collectives": {"all-reduce": {"instructions": 10, "executions": 40, "bytes": 1_000_000}},
    }
    lines = format_comparison(base, half).splitlines()
    row = next(line for line in lines if line.startswith("memory traffic"))
    assert row.split() == ["memory", "traffic", "100", "GB", "25", "GB", "0.25"]
    row = next(line for line in lines if line.startswith("all-reduce"))
    assert row.endswith("150, 2 MB  10, run 40 times, 1 MB   0.50")


def test_a_thread_is_given_its_scheduling_back():
    """libtpu may leave it in the real-time class, which only root could do here."""
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        with ordinary_scheduling():
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pytest.skip("only root may ask for real-time scheduling")
    assert os.sched_getscheduler(0) == os.SCHED_OTHER == before

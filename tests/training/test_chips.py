"""Published rates, and topologies by name."""

from __future__ import annotations

import importlib.util

import jax
import pytest

from rt1_jax.training import topology
from rt1_jax.training.chips import CHIPS, GIB, step_seconds
from rt1_jax.training.topology import TopologyError, known_topologies, make_topology

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="no libtpu: pip install 'rt1_jax[fit]'"
)


def test_the_time_of_the_reference_step_is_that_of_its_traffic():
    seconds = step_seconds(CHIPS["v5e"], traffic=99.6e9, flops=0.73e12, wire=2 * 35e6 * 4)
    assert seconds.bound == "memory"
    assert seconds.memory == pytest.approx(0.1216, rel=1e-3)
    assert seconds.compute == pytest.approx(0.0037, rel=1e-2)
    assert seconds.longest == seconds.memory


@pytest.mark.parametrize(
    ("bound", "traffic", "flops", "wire"),
    [
        ("memory", 1e12, 1e12, 1e6),
        ("compute", 1e9, 1e15, 1e6),
        ("interconnect", 1e9, 1e12, 1e12),
    ],
)
def test_what_takes_longest_bounds(bound, traffic, flops, wire):
    assert step_seconds(CHIPS["v5p"], traffic, flops, wire).bound == bound


def test_a_program_cannot_have_much_more_than_is_published():
    for chip in CHIPS.values():
        assert 0.9 < chip.usable_bytes / chip.memory_bytes < 1.01
        assert chip.usable_bytes > 15 * GIB


@pytest.mark.parametrize(
    "name", ["", "v5e", "v99:2x2", "v5e:4by4", "v5e:2x2x2", "v4:4x4", "cpu:0", "gpu:8"]
)
def test_unknown_topologies_are_told_the_known_ones(name):
    with pytest.raises(TopologyError, match=r"v5e:\{2x2,.*16x16\}.*cpu:N"):
        make_topology(name)


def test_more_cpu_devices_than_jax_has():
    jax.devices()  # from now on their number stands
    with pytest.raises(TopologyError, match="xla_force_host_platform_device_count=4096"):
        make_topology("cpu:4096")


def test_one_cpu_device():
    made = make_topology("cpu:1")
    assert (made.platform, len(made.devices), made.chip) == ("cpu", 1, None)


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TopologyError, match=r"pip install 'rt1_jax\[fit\]'"):
        make_topology("v5e:4x4")


@needs_libtpu
@pytest.mark.parametrize("name", [n for n in known_topologies() if n != "cpu:N"])
def test_all_known_topologies_have_one_device_a_chip(name):
    made = make_topology(name)
    chips = 1
    for size in name.split(":")[1].split("x"):
        chips *= int(size)
    assert len(made.devices) == chips
    assert made.platform == made.devices[0].platform == "tpu"


@needs_libtpu
def test_a_shape_that_hosts_do_not_make():
    with pytest.raises(TopologyError, match=r"libtpu makes no v5e:3x3 .*v5e:\{2x2"):
        make_topology("v5e:3x3")

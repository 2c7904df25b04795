"""Devices to compile for that need not be there: a slice of TPU chips, or virtual CPU devices.

A TPU topology is made by the `libtpu` of PyPI on any x86 Linux machine; nothing is asked of a TPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import re
from typing import Any

import jax

from rt1_jax.training.chips import CHIPS, Chip
from rt1_jax.training.libtpu_environment import ordinary_scheduling, set_libtpu_environment


class TopologyError(ValueError):
    """A topology that is not known, or that this installation cannot compile for."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices that programs are compiled for.

    Attributes:
      name: as it was asked for.
      platform: "tpu" or "cpu".
      devices: one a chip; they can't run anything if they are a TPU's.
      chip: its published rates, or None for a CPU.
    """

    name: str
    platform: str
    devices: tuple[Any, ...]
    chip: Chip | None


def known_topologies() -> list[str]:
    """Names that are known to compile; TPU slices of other shapes may too."""
    tpu = [f"{chip.name}:{shape}" for chip in CHIPS.values() for shape in chip.slices]
    return [*tpu, "cpu:N"]


@ordinary_scheduling()
def make_topology(name: str) -> Topology:
    """The devices of a topology.

    Args:
      name: "GENERATION:SHAPE", of chips, as in `known_topologies`; or "cpu:N".

    Raises:
      TopologyError: not a known one, no libtpu, or JAX already runs with fewer CPU devices.
    """
    virtual = re.fullmatch(r"cpu:([1-9]\d*)", name)
    if virtual:
        return Topology(name, "cpu", _cpu_devices(int(virtual[1])), None)
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+)+)", name)
    if not found or found[1] not in CHIPS:
        raise TopologyError(f"unknown topology {name!r}: {_known()}")
    chip, shape = CHIPS[found[1]], found[2]
    if len(shape.split("x")) != len(chip.slices[0].split("x")):
        raise TopologyError(f"a slice of {chip.name} is not {shape}: {_known()}")
    return Topology(name, "tpu", _tpu_devices(name, chip), chip)


def _known() -> str:
    by_chip = [f"{c.name}:{{{','.join(c.slices)}}}" for c in CHIPS.values()]
    return "known are " + ", ".join([*by_chip, "cpu:N"])


def _tpu_devices(name: str, chip: Chip) -> tuple[Any, ...]:
    if importlib.util.find_spec("libtpu") is None:
        raise TopologyError(
            f"{name} is compiled for by libtpu, which is not installed: "
            "pip install 'rt1_jax[fit]' (it needs no TPU)"
        )
    set_libtpu_environment()
    from jax.experimental import topologies

    # Two cores of a v4 chip are one device, as they are where a TPU is.
    options = {"chip_config_name": "megacore"} if chip.name == "v4" else {}
    try:
        return tuple(topologies.get_topology_desc(name, platform="tpu", **options).devices)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise TopologyError(f"libtpu makes no {name} ({reason}): {_known()}") from None


def _cpu_devices(count: int) -> tuple[Any, ...]:
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX runs already, with devices of its own
            jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise TopologyError(
            f"cpu:{count} needs {count} devices and JAX was started with {len(devices)}: set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={count} before it starts"
        )
    return tuple(devices[:count])

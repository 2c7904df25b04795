"""What the compiled training step takes of each chip: memory, traffic, work, collectives."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import jax

from rt1_jax.actions import RT1, ActionField, ActionSpec
from rt1_jax.training.chips import step_seconds
from rt1_jax.training.config_keys import complete
from rt1_jax.training.hlo_collectives import Program, read_collectives
from rt1_jax.training.libtpu_environment import ordinary_scheduling
from rt1_jax.training.topology import Topology

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_OUT_OF_MEMORY = (
    re.compile(r"\(([\d.]+)([KMGT]?)B?\) exceeds available HBM \(([\d.]+)([KMGT]?)B?\)"),
    re.compile(r"Used ([\d.]+)([KMGT]?)B? of ([\d.]+)([KMGT]?)B? hbm"),
)


class FitError(ValueError):
    """A config that can't be compiled for the devices; the message says what to change."""


@ordinary_scheduling()
def measure(
    config: Any,
    topology: Topology,
    *,
    image_size: tuple[int, int],
    per_device_batch: int = 0,
    name: str = "",
) -> dict[str, Any]:
    """Compiles the training step of a config and counts what it does.

    Args:
      config: a run's, as in `configs/`; `batch_size` is windows over all devices.
      topology: devices to compile for.
      image_size: (height, width) of the frames that the data would have.
      per_device_batch: windows a device, in place of `batch_size`.
      name: what the report calls the config.

    Returns:
      Numbers a chip and a step (see `fit_report`): `memory_bytes` of `chip_bytes`, `temp_bytes`,
      `traffic_bytes`, `flops`, `collectives`, `bound`, `windows_per_second` and more. Where XLA
      says that the step does not fit, only what is known: `fits` is False and the numbers None.

    Raises:
      FitError: batch, mesh or model do not go together.
    """
    config = complete(config)
    devices = len(topology.devices)
    with config.unlocked():
        config.batch_size = _batch_size(config.batch_size, per_device_batch, devices)
    report: dict[str, Any] = {
        "name": name or config.name,
        "topology": topology.name,
        "devices": devices,
        "batch_size": config.batch_size,
        "per_device_batch": config.batch_size // devices,
        "frames": config.model.frames,
        "image_size": list(image_size),
        "accumulate": config.step.accumulate,
        "jax": jax.__version__,
    }
    lowered, parameters, traced = _lower(config, topology, image_size)
    report |= {"parameters": parameters, "trace_seconds": round(traced, 1)}
    started = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        report |= _too_large(str(error), topology)
    else:
        report |= _memory(compiled.memory_analysis(), topology)
        report |= _work(compiled, config.step.accumulate, parameters)
        report |= _speed(report, topology, config.batch_size)
    report["compile_seconds"] = round(time.perf_counter() - started, 1)
    report["help"] = [] if report["fits"] else _help(config, report, devices)
    return report


def spec_for(model: Any) -> ActionSpec:
    """RT-1's actions, or made-up ones of as many tokens and bins as the model has."""
    bins = model.get("bins", RT1.bins)
    tokens = model.get("action_tokens", RT1.action_tokens)
    if tokens == RT1.action_tokens:
        return dataclasses.replace(RT1, bins=bins)
    ends = (-1.0,) * tokens, (1.0,) * tokens
    return ActionSpec("made_up", (ActionField("action", tokens, *ends, "1"),), bins)


def _batch_size(batch_size: int, per_device: int, devices: int) -> int:
    if per_device < 0:
        raise FitError(f"--per_device_batch is {per_device}, expected windows a device")
    if per_device:
        return per_device * devices
    if batch_size % devices:
        below = batch_size // devices * devices
        raise FitError(
            f"batch_size is {batch_size}, which {devices} devices can't share: take "
            + (f"{below} or " if below else "")
            + f"{below + devices}, or say --per_device_batch"
        )
    return batch_size


def _lower(config: Any, topology: Topology, image_size: tuple[int, int]) -> tuple[Any, int, float]:
    from rt1_jax.training.program import make_program
    from rt1_jax.training.sharding import make_mesh

    started = time.perf_counter()
    try:
        program = make_program(
            config,
            make_mesh(config.mesh, topology.devices),
            action_spec=spec_for(config.model),
            image_size=image_size,
            platform=topology.platform,
        )
        lowered = program.lower()
    except ValueError as error:
        raise FitError(str(error)) from error
    parameters = sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.params))
    return lowered, parameters, time.perf_counter() - started


def _memory(sizes: Any, topology: Topology) -> dict[str, Any]:
    """Donated buffers stand among arguments and output, and exist once."""
    numbers = {
        "argument_bytes": sizes.argument_size_in_bytes,
        "temp_bytes": sizes.temp_size_in_bytes,
        "output_bytes": sizes.output_size_in_bytes,
        "alias_bytes": sizes.alias_size_in_bytes,
        "code_bytes": sizes.generated_code_size_in_bytes,
    }
    total = (
        numbers["argument_bytes"]
        + numbers["temp_bytes"]
        + numbers["output_bytes"]
        - numbers["alias_bytes"]
    )
    chip = topology.chip.usable_bytes if topology.chip else None
    short = max(0, total - chip) if chip else 0
    return numbers | {
        "memory_bytes": total,
        "chip_bytes": chip,
        "fits": not short,
        "short_bytes": short,
    }


def _too_large(message: str, topology: Topology) -> dict[str, Any]:
    """From XLA's error, which names what is needed and what there is, to about 10 MB."""
    found = next((m for p in _OUT_OF_MEMORY if (m := p.search(message))), None)
    if "RESOURCE_EXHAUSTED" not in message or not topology.chip:
        raise FitError(f"XLA does not compile this: {message.strip().splitlines()[0]}")
    needed, chip = None, topology.chip.usable_bytes
    if found:
        needed = round(float(found[1]) * _UNITS[found[2]])
        chip = round(float(found[3]) * _UNITS[found[4]])
    return {
        "argument_bytes": None,
        "temp_bytes": None,
        "output_bytes": None,
        "alias_bytes": None,
        "code_bytes": None,
        "memory_bytes": needed,
        "chip_bytes": chip,
        "fits": False,
        "short_bytes": needed - chip if needed else None,
        "traffic_bytes": None,
        "flops": None,
        "collectives": None,
        "xla": message.strip().splitlines()[0],
    }


def _work(compiled: Any, accumulate: int, parameters: int) -> dict[str, Any]:
    """XLA counts a loop's body as one turn, so that of accumulation is multiplied here.

    What stands outside that loop is the update of the state: it reads and writes the donated
    buffers and reads the gradient, float32, which gives its traffic. Its FLOPs are left out.
    """
    cost = compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list | tuple) else cost  # by JAX's version
    traffic, flops = float(cost["bytes accessed"]), float(cost["flops"])
    program: Program = read_collectives(compiled.as_text())
    looped = accumulate > 1 and accumulate in program.trip_counts
    once_traffic, once_flops = traffic, flops
    if looped:
        alias = compiled.memory_analysis().alias_size_in_bytes
        outside = min(traffic, 2.0 * alias + 4.0 * parameters)
        traffic = outside + (traffic - outside) * accumulate
        flops *= accumulate
    return {
        "traffic_bytes": traffic,
        "flops": flops,
        "collectives": program.by_kind(),
        "wire_bytes": program.wire_bytes,
        "loops": {
            "trip_counts": list(program.trip_counts),
            "unknown": program.unknown_loops,
            "corrected": looped,
            "traffic_bytes_as_xla_counts": once_traffic,
            "flops_as_xla_counts": once_flops,
        },
    }


def _speed(report: dict[str, Any], topology: Topology, windows: int) -> dict[str, Any]:
    if topology.chip is None:
        return {"seconds": None, "bound": None, "windows_per_second": None}
    seconds = step_seconds(
        topology.chip, report["traffic_bytes"], report["flops"], report["wire_bytes"]
    )
    return {
        "seconds": dataclasses.asdict(seconds),
        "bound": seconds.bound,
        "windows_per_second": windows / seconds.longest,
    }


def _help(config: Any, report: dict[str, Any], devices: int) -> list[str]:
    """Settings that take less memory, those that change nothing else first."""
    found = []
    batch, accumulate = report["per_device_batch"], config.step.accumulate
    if config.step.remat == "none":
        found.append("step.remat: compute parts of the forward pass again, slower, same numbers")
    if batch // accumulate > 1:
        found.append(
            f"step.accumulate={accumulate * 2}: the batch in parts, batch normalisation over each"
        )
    if str(config.step.compute or config.model.get("dtype", "float32")) == "float32":
        found.append("step.compute=bfloat16: activations of half the size")
    state = 16 * report["parameters"]  # float32, with two moments and the average
    if config.mesh.fsdp == 1 and devices > 1 and state > (report["chip_bytes"] or 0) / 100:
        found.append(f"mesh.fsdp={devices}: parameters and optimiser shared among the devices")
    if batch > 1:
        found.append(f"--per_device_batch={batch // 2}: fewer windows at once")
    return found

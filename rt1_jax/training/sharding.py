"""One named mesh, and which axis of each array is split over it.

All devices share the batch. Over ``data`` they hold the same parameters; over ``fsdp`` each holds
a part of them (and of the optimiser's state and the averages), gathered where a layer needs it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp")


class MeshError(ValueError):
    """A mesh that the devices do not make, or that does not fit the batch."""


def make_mesh(config: Any, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh ``("data", "fsdp")`` of a config.

    Devices are in the order of their processes, so that each process holds a row of the batch's
    parts, and the order of a batch does not depend on how many processes there are.

    Args:
      config: the `mesh` section: `data` and `fsdp`, of which one may be -1, all that are left.
      devices: of this machine or topology; all that JAX sees if None.

    Raises:
      MeshError: the two do not multiply to the number of devices.
    """
    found = list(jax.devices() if devices is None else devices)
    found.sort(key=lambda device: (device.process_index, device.id))
    sizes = {axis: int(config[axis]) for axis in AXES}
    free = [axis for axis, size in sizes.items() if size == -1]
    given = math.prod(size for size in sizes.values() if size != -1)
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise MeshError(f"mesh is {sizes}, expected numbers of devices, one of them perhaps -1")
    if free:
        sizes[free[0]] = len(found) // given
    if math.prod(sizes.values()) != len(found):
        raise MeshError(
            f"mesh.data x mesh.fsdp is {config['data']} x {config['fsdp']}, but there are "
            f"{len(found)} devices: set mesh.fsdp to a divisor of {len(found)} and mesh.data to -1"
        )
    shape = tuple(sizes.values())
    return Mesh(np.asarray(found).reshape(shape), AXES, axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis of every array of a batch, over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(mesh: Mesh, batch: dict[str, Any]) -> dict[str, Any]:
    """This process' rows of a batch as parts of the global one, on its devices."""
    place = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, place)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(place, x), batch)


def check_batch(mesh: Mesh, batch_size: int, accumulate: int = 1, processes: int = 1) -> None:
    """Raises MeshError unless a global batch can be split over devices, processes and parts."""
    parts = mesh.size * accumulate
    if batch_size % parts or batch_size % processes:
        below = batch_size // math.lcm(parts, processes) * math.lcm(parts, processes)
        raise MeshError(
            f"batch_size is {batch_size}, which {mesh.size} devices times step.accumulate "
            f"{accumulate} do not divide: choose a multiple of {math.lcm(parts, processes)}"
            + (f", such as {below}" if below else "")
        )


def state_specs(
    tree: Any, mesh: Mesh, *, shard_from: int, rules: Sequence[tuple[str, Any]] = ()
) -> Any:
    """Which axis of each array is split over ``fsdp``.

    By size: the longest axis that `fsdp` divides, the last of equal ones, of every array of
    `shard_from` numbers or more. An array and its moments and average have one shape, so that
    they are split alike. A rule goes before: the first whose pattern is found in the array's path.

    Args:
      tree: of arrays or `jax.ShapeDtypeStruct`s, e.g. a `TrainState`.
      mesh: of `make_mesh`.
      shard_from: numbers; smaller arrays are on every device.
      rules: ((regular expression, ("fsdp", None, ...)), ...); an empty tuple is on every device.

    Returns:
      the same tree of `PartitionSpec`s.

    Raises:
      MeshError: a rule splits an axis that the mesh does not divide, or matches nothing.
    """
    used: set[str] = set()

    def spec(path: Any, leaf: Any) -> PartitionSpec:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, axes in rules:
            if re.search(pattern, name):
                used.add(pattern)
                _check_rule(pattern, axes, name, leaf.shape, mesh)
                return PartitionSpec(*axes)
        return _by_size(leaf.shape, mesh.shape["fsdp"], shard_from)

    specs = jax.tree_util.tree_map_with_path(spec, tree)
    for pattern, _ in rules:
        if pattern not in used:
            raise MeshError(f"mesh.rules: no array's path has {pattern!r} in it")
    return specs


def shardings(specs: Any, mesh: Mesh) -> Any:
    """`NamedSharding`s of a tree of specs."""
    is_spec = lambda x: isinstance(x, PartitionSpec)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=is_spec)


def table(params: Any, specs: Any, mesh: Mesh) -> str:
    """What is split and what is not, by shape: one line for all arrays that are alike."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    is_spec = lambda x: isinstance(x, PartitionSpec)
    groups: dict[tuple[str, str], list[Any]] = {}
    for (path, leaf), spec in zip(leaves, jax.tree.leaves(specs, is_leaf=is_spec), strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        part = "/".join(re.sub(r"\d+", "*", name).split("/"))
        groups.setdefault((part, str(spec)), []).append(leaf)
    split, whole = 0, 0
    lines = []
    for (part, spec), arrays in groups.items():
        numbers = sum(math.prod(a.shape) for a in arrays)
        if spec == str(PartitionSpec()):
            whole += numbers
            continue
        split += numbers
        lines.append(f"  {spec:28} {len(arrays):4} x {part}")
    fsdp = mesh.shape["fsdp"]
    head = (
        f"mesh: data {mesh.shape['data']} x fsdp {fsdp} = {mesh.size} devices; "
        f"{split:,} parameters split {fsdp} ways, {whole:,} on every device"
    )
    return "\n".join([head, *lines])


def by_process(mesh: Mesh) -> Mapping[int, int]:
    """{process: how many of the mesh's devices it holds}."""
    counts: dict[int, int] = {}
    for device in mesh.devices.flat:
        counts[device.process_index] = counts.get(device.process_index, 0) + 1
    return counts


def _by_size(shape: tuple[int, ...], fsdp: int, shard_from: int) -> PartitionSpec:
    if fsdp == 1 or math.prod(shape) < shard_from:
        return PartitionSpec()
    axes = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if not axes:
        return PartitionSpec()
    longest = max(axes, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*(AXES[1] if axis == longest else None for axis in range(longest + 1)))


def _check_rule(
    pattern: str, axes: Sequence[Any], name: str, shape: tuple[int, ...], mesh: Mesh
) -> None:
    if len(axes) > len(shape):
        raise MeshError(
            f"mesh.rules: {pattern!r} names {len(axes)} axes, but {name} has the shape {shape}"
        )
    for axis, size in zip(axes, shape, strict=False):
        if axis is None:
            continue
        if axis not in AXES:
            raise MeshError(f"mesh.rules: {pattern!r} names the axis {axis!r}, known are {AXES}")
        if size % mesh.shape[axis]:
            raise MeshError(
                f"mesh.rules: {pattern!r} splits {name} {shape} along {size}, which {axis} = "
                f"{mesh.shape[axis]} does not divide"
            )

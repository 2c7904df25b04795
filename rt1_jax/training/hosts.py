"""Several processes as one run: who they are, and that they agree on what they do."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
import uuid
from typing import Any

import jax
import numpy as np

HEARTBEAT_SECONDS = 30
"""After so long without a sign of life of one process, the others end."""

_COMPILE_SECONDS = 3600  # one process may be so much later than another


class HostsError(ValueError):
    """Processes that cannot be one run."""


def initialize(coordinator: str = "", processes: int = 0, process: int = -1) -> None:
    """Joins the processes of a run; a process that is alone is left as it is.

    Called before anything else of JAX. Where the three are given, they count. Else it goes by the
    environment, as JAX finds it: `JAX_COORDINATOR_ADDRESS`, a Cloud TPU slice by its metadata or
    GKE's variables, or SLURM with several tasks. With one task a node, that one drives all of the
    node's GPUs; with several, each drives the one of its local number, unless
    `JAX_LOCAL_DEVICE_IDS` says otherwise.

    Args:
      coordinator: HOST:PORT of process 0.
      processes: how many there are.
      process: which one this is, from 0.

    Raises:
      HostsError: some of the three are given, and not all; or the devices are of several processes
        which were not told of each other.
    """
    if coordinator or processes or process >= 0:
        if not coordinator or processes < 1 or not 0 <= process < processes:
            raise HostsError(
                f"coordinator is {coordinator!r}, processes is {processes}, process is {process}: "
                "expected HOST:PORT of process 0, how many there are, and which one this is"
            )
        jax.distributed.initialize(
            coordinator, processes, process, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    elif _in_a_cluster():
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    elif _has_tpu_metadata():
        try:
            jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
        except (OSError, ValueError) as error:  # a TPU of its own; if not, it is said below
            print(f"no metadata of a TPU slice ({error}): one process alone", file=sys.stderr)
    if jax.distributed.is_initialized() and _alone_on_its_node():
        # JAX gave it the GPU of its local number, 0, and no other.
        jax.config.update("jax_cuda_visible_devices", "all")
        jax.config.update("jax_rocm_visible_devices", "all")
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise HostsError(
            f"the devices are those of {jax.process_count()} processes, but this one was not told "
            "of the others: start each with --coordinator=HOST:PORT of process 0, --processes and "
            "--process"
        )


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def gather_json(value: Any) -> list[Any]:
    """The JSON-able values of all processes, by process; every process must call it."""
    if jax.process_count() == 1:
        return [value]
    from jax.experimental import multihost_utils

    own = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.asarray([len(own)])))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(own)] = own
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(lengths), -1)
    sizes = lengths.reshape(-1)
    return [json.loads(rows[i, : int(n)].tobytes()) for i, n in enumerate(sizes)]


def compile_together(name: str, function: Any, *arguments: Any) -> None:
    """Compiles a jitted function for these arguments, and returns when every process has.

    The call after that finds it compiled. A process that comes to a collective waits for the others
    only so long (Gloo: 30 s), and on busy machines compiling may take one that much longer.

    Args:
      name: the same on every process, and another at each call.
    """
    if jax.process_count() > 1:
        from orbax.checkpoint import multihost

        function.lower(*arguments).compile()
        wait = multihost.get_barrier_sync_fn()
        wait(key=f"rt1_jax compiled {name}", timeout_ms=_COMPILE_SECONDS * 1000)


def check_agreement(facts: dict[str, Any]) -> None:
    """Every process must have the same facts; all raise alike if not.

    Args:
      facts: {name: JSON-able}, flat.

    Raises:
      HostsError: naming the first fact that differs, and what it is where.
    """
    everyone = gather_json(facts)
    first = json.loads(json.dumps(facts)) if len(everyone) == 1 else everyone[0]
    for number, other in enumerate(everyone):
        for name in sorted({*first, *other}):
            if first.get(name) != other.get(name):
                raise HostsError(
                    f"the processes disagree: {name} is {first.get(name)!r} on process 0 and "
                    f"{other.get(name)!r} on process {number}; start all with the same code, "
                    "flags and data, and a --workdir that all of them see"
                )


def check_shared(directory: pathlib.Path, seconds: float = 90.0) -> None:
    """Every process must see the same directory, which is made; every process must call it.

    Args:
      directory: a run's.
      seconds: that what one writes may take to appear elsewhere (NFS remembers what was not there).

    Raises:
      HostsError: on all processes: it cannot be written, or is another directory somewhere.
    """
    if jax.process_count() == 1:
        return
    seen = directory / f".seen-by-all-{gather_json(uuid.uuid4().hex)[0]}"
    failed = ""
    if is_first():
        try:
            directory.mkdir(parents=True, exist_ok=True)
            seen.touch()
        except OSError as error:
            failed = str(error)
    failed = gather_json(failed)[0]
    if failed:
        raise HostsError(f"process 0 cannot write {directory}: {failed}")
    ends = time.monotonic() + seconds
    while not seen.exists() and time.monotonic() < ends:
        time.sleep(0.2)
    blind = [number for number, sees in enumerate(gather_json(seen.exists())) if not sees]
    if is_first():
        seen.unlink(missing_ok=True)
    if blind:
        raise HostsError(
            f"{directory} is not one directory: what process 0 writes there, process {blind[0]} "
            "does not see; give a --workdir that all hosts share (docs/tpu_pods.md)"
        )


def _in_a_cluster() -> bool:
    """Whether the environment says that there are several processes."""
    if os.environ.get("JAX_COORDINATOR_ADDRESS"):
        return True
    # One task is a run of its own, also inside of SLURM.
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
        return True
    for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
        if "," in os.environ.get(name, ""):
            return True
    return bool(os.environ.get("MEGASCALE_COORDINATOR_ADDRESS"))


def _has_tpu_metadata() -> bool:
    """Whether this is a Cloud TPU VM, where only the metadata tell of a slice's other hosts."""
    from jax._src import cloud_tpu_init  # the only place that says whether there are TPUs

    platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
    if "tpu" not in (platforms or "tpu"):
        return False
    return cloud_tpu_init.running_in_cloud_tpu_vm and "TPU_SKIP_MDS_QUERY" not in os.environ


def _alone_on_its_node() -> bool:
    """Whether SLURM runs one task a node, and nobody has said which devices it is to have."""
    tasks, nodes = os.environ.get("SLURM_NTASKS"), os.environ.get("SLURM_STEP_NUM_NODES")
    return tasks is not None and tasks == nodes and not os.environ.get("JAX_LOCAL_DEVICE_IDS")

"""Training as a process of its own: how it ends, for people and for schedulers."""

from __future__ import annotations

import faulthandler
import os
import sys
from typing import Any

import jax

from rt1_jax.training import hosts
from rt1_jax.training.guards import DeviceMemoryError, NonFiniteLossError, StepFailedError
from rt1_jax.training.loop import train
from rt1_jax.training.preemption import RESTART_CODE

_LEAVE_SECONDS = 10.0


def train_or_exit(
    config: Any,
    workdir: str | os.PathLike[str],
    *,
    coordinator: str = "",
    processes: int = 0,
    process: int = -1,
    progress: bool = True,
) -> dict[str, Any]:
    """Joins the other processes and trains; what goes wrong ends this process.

    Args:
      config, workdir, progress: see `train`.
      coordinator, processes, process: see `hosts.initialize`.

    Returns:
      See `train`; when it was told to go, too: the caller then exits with `RESTART_CODE`.

    Raises:
      SystemExit: 1, with the reason, for what would happen again. The process is gone with
        `RESTART_CODE`, and nothing is raised, where another process has failed.
    """
    try:
        hosts.initialize(coordinator, processes, process)
        return train(config, workdir, progress=progress)
    except StepFailedError as error:
        print(f"train.py: {error}", file=sys.stderr, flush=True)
        os._exit(RESTART_CODE)  # exit handlers would wait for the process that is gone
    except (ValueError, OSError, NonFiniteLossError, DeviceMemoryError) as error:
        _leave_soon()
        sys.exit(f"train.py: {error}")
    except BaseException:
        _leave_soon()
        raise


def _leave_soon() -> None:
    """At its exit JAX waits minutes for the others, which may wait for this process in a step.

    Where all of them end for the same reason, they are through at once.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        nowhere = open(os.devnull, "w")  # noqa: SIM115 (open until the end)
        faulthandler.dump_traceback_later(_LEAVE_SECONDS, exit=True, file=nowhere)

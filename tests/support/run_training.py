"""Trains the small model in a process of its own; for tests of several devices, processes, faults.

python tests/support/run_training.py DATASET WORKDIR '{"optimizer.steps": 8, ...}' \
    [COORDINATOR PROCESSES PROCESS]
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

import small


def apply(config: Any, changes: dict[str, Any]) -> Any:
    """A config with some keys changed, named with dots."""
    for name, value in changes.items():
        *groups, last = name.split(".")
        section = config
        for group in groups:
            section = section[group]
        section[last] = tuple(value) if isinstance(value, list) else value
    return config


def main() -> None:
    dataset, workdir, changes, *cluster = sys.argv[1:]
    import jax

    from rt1_jax.training import hosts
    from rt1_jax.training.guards import StepFailedError
    from rt1_jax.training.loop import train
    from rt1_jax.training.preemption import RESTART_CODE

    if limit := os.environ.get("LARGEST_FILE"):  # as a full disk: no file may grow beyond it
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    address, count, number = cluster or ("", 0, -1)
    hosts.initialize(address, int(count), int(number))  # else by the environment
    config = apply(small.small_config(dataset), json.loads(changes))
    try:
        summary = train(config, workdir, progress=False)
    except StepFailedError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(RESTART_CODE)
    except ValueError as error:
        sys.exit(str(error))
    print(json.dumps({**summary, "processes": jax.process_count()}))
    if summary["preempted"]:
        sys.exit(RESTART_CODE)


if __name__ == "__main__":
    main()

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

    from rt1_jax.training.command import train_or_exit
    from rt1_jax.training.preemption import RESTART_CODE

    if limit := os.environ.get("LARGEST_FILE"):  # as a full disk: no file may grow beyond it
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    address, count, number = cluster or ("", 0, -1)
    config = apply(small.small_config(dataset), json.loads(changes))
    summary = train_or_exit(  # the processes by the environment, if not by these
        config,
        workdir,
        coordinator=address,
        processes=int(count),
        process=int(number),
        progress=False,
    )
    print(json.dumps({**summary, "processes": jax.process_count()}))
    if summary["preempted"]:
        sys.exit(RESTART_CODE)


if __name__ == "__main__":
    main()

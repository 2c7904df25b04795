"""Each measurement in a process of its own: its memory is its own, nothing is warm."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

import numpy as np
import psutil


def in_process(function: Any, *arguments: Any) -> dict[str, Any]:
    """A function's result from a fresh process."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(its, function, arguments))
    process.start()
    its.close()
    try:
        found = mine.recv()
    except EOFError:
        raise SystemExit(f"{function.__name__} failed, see above") from None
    process.join()
    return found


def _run(pipe: Any, function: Any, arguments: Any) -> None:
    pipe.send(function(*arguments))
    pipe.close()
    sys.stdout.flush()
    # Loaders' threads and workers go with the process.
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(0)


def tree_megabytes() -> float:
    """Memory of this process and its children; what they share counts once."""
    process = psutil.Process()
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def spread(values: Any) -> str:
    """Median, least and most."""
    low, middle, high = np.min(values), np.median(values), np.max(values)
    digits = 2 if middle < 10 else 0
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

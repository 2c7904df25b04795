"""Memory of the loader's processes, and the time to its first batch, by number of episodes.

    python benchmarks/loader_memory.py --output=out/loader_memory.json

Makes datasets of 1,000 and 100,000 episodes of tiny frames in --directory.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from typing import Any

from support.isolated import in_process, tree_megabytes
from support.report import report
from support.robot_data import write_tiny

FRAMES = 6


def main() -> None:
    """Runs it and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", help="for the data; a temporary one by default")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output")
    given = parser.parse_args()
    report(measure_memory, given)


def measure_memory(root: pathlib.Path, given: Any) -> dict[str, Any]:
    """MB of the loader's processes, most over 200 batches, by number of episodes."""
    found: dict[str, Any] = {}
    peaks = {}
    for episodes in (1_000, 100_000):
        directory = root / f"tiny{episodes}"
        if not (directory / "dataset.json").exists():
            in_process(write_tiny, directory, episodes)
        result = in_process(watch_memory, directory, given)
        peaks[episodes] = result["megabytes"]
        found[f"{episodes} episodes, MB"] = round(result["megabytes"])
        found[f"{episodes} episodes, s to the first batch"] = round(result["first_seconds"], 2)
    found["growth"] = f"{peaks[100_000] / peaks[1_000] - 1:+.1%}"
    return found


def watch_memory(directory: pathlib.Path, given: Any) -> dict[str, float]:
    """The most memory while 200 batches are read."""
    from rt1_jax.data.loader import make_loader
    from rt1_jax.data.store import StepStore

    started = time.perf_counter()
    loader = make_loader(
        StepStore.open(directory),
        frames=FRAMES,
        batch_size=given.batch_size,
        seed=0,
        workers=given.workers,
        threads=2,
    )
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - started
    peak = 0.0
    for number in range(200):
        next(batches)
        if number % 10 == 9:
            peak = max(peak, tree_megabytes())
    return {"megabytes": peak, "first_seconds": first}


if __name__ == "__main__":
    main()

"""Making a dataset's shards in parallel, so that an interrupted making can go on.

A dataset directory in the making carries a marker that says what it is made of. Shards appear under
their names when they are whole, so what is there is done.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import cloudpickle

from rt1_jax.data.shards import DatasetError, open_shard, read_shard_index
from rt1_jax.files import write_atomically


def claim_directory(
    root: str | os.PathLike[str], made_of: dict[str, Any], marker: str
) -> pathlib.Path:
    """Marks a directory with what its dataset is made of, or checks that it carries the same.

    Args:
      root: the dataset's directory: new, empty, or marked alike.
      made_of: JSON-able; everything that the data depend on.
      marker: the file's name.

    Raises:
      DatasetError: it holds something else.
    """
    root = pathlib.Path(root)
    path = root / marker
    wanted = json.loads(json.dumps(made_of))
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError:
            found = {"content": "unreadable"}
        for key in sorted({*found, *wanted}):
            if wanted.get(key) != found.get(key):
                raise DatasetError(
                    f"{root} holds data made with {key}={found.get(key)!r}, asked for "
                    f"{wanted.get(key)!r}: choose another --output or delete it"
                )
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DatasetError(
            f"{root} exists and is not an unfinished dataset of this command: choose another "
            "--output or delete it"
        )
    else:
        write_atomically(path, json.dumps(wanted, indent=1))
    for leftover in root.glob("*.partial-*"):
        leftover.unlink()
    return root


def is_finished(shard: pathlib.Path) -> bool:
    """Whether a shard is there with all the steps that its list of episodes names."""
    try:
        steps = sum(episode["length"] for episode in read_shard_index(shard)["episodes"])
        return steps == open_shard(shard).num_records()
    except (DatasetError, KeyError, TypeError):
        return False


def run_jobs(
    make: Callable[[Any], Any], jobs: Sequence[Any], processes: int
) -> Iterator[tuple[Any, Any]]:
    """Yields (job, make(job)) as they are done; the first failure ends the others.

    Args:
      make: a module's function, called in fresh processes, or here if there is but one.
      jobs: its arguments.
      processes: at most so many at once.
    """
    if min(processes, len(jobs)) <= 1:
        for job in jobs:
            yield job, make(job)
        return
    # Fresh interpreters: threads and what TensorFlow holds do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = futures.ProcessPoolExecutor(min(processes, len(jobs)), context, _start_worker)
    try:
        # Functions of a user's file are known in this process only: they travel whole.
        waiting = {pool.submit(_call, cloudpickle.dumps((make, job))): job for job in jobs}
        for done in futures.as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _call(packed: bytes) -> Any:
    make, job = cloudpickle.loads(packed)
    return make(job)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop

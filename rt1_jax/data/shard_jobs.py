"""Making a dataset's shards in parallel processes; which are there already need not be made."""

from __future__ import annotations

import multiprocessing
import pathlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import cloudpickle

from rt1_jax.data.shards import DatasetError, count_steps, read_shard_index


def is_finished(shard: pathlib.Path) -> bool:
    """Whether a shard is there with all the steps that its list of episodes names."""
    try:
        steps = sum(episode["length"] for episode in read_shard_index(shard)["episodes"])
        return steps == count_steps(shard)
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

"""One policy for many connections: requests that wait together become one batch.

A worker thread owns the policy. It takes what waits, at once: a lone request is never held back
for company, and while a batch runs the next one gathers. Batches are padded to a few sizes (1, 2,
4, ... up to the largest), so that every shape is compiled before the first robot comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.serving.memory import give_back_memory


class BatcherClosedError(RuntimeError):
    """A request to a batcher that has stopped."""


@dataclasses.dataclass(frozen=True)
class StepResult:
    """One robot's share of a batch.

    Attributes:
      state: its next state, a batch of one.
      action: {field: [size]}.
      batch_size: requests that were served together.
      queue_seconds: from the request to the start of its batch.
      infer_seconds: of the batch, joining and splitting included.
    """

    state: Any
    action: dict[str, np.ndarray]
    batch_size: int
    queue_seconds: float
    infer_seconds: float


class Batcher:
    """Serves single steps from a batched policy.

    Args:
      policy: anything with the `initial_state` and `step` of `rt1_jax.Policy`; every leaf of its
        state has the batch as first axis.
      max_batch: the largest batch.
      on_batch: told (requests, padded size, seconds) after every batch, in the worker thread.
    """

    def __init__(
        self,
        policy: Any,
        max_batch: int,
        on_batch: Callable[[int, int, float], None] = lambda requests, size, seconds: None,
    ) -> None:
        self._policy = policy
        # Keys and values are worth keeping for one robot; joined and split, they are mostly copied.
        self._keep = None if max_batch == 1 else False
        self._on_batch = on_batch
        self.buckets = bucket_sizes(max_batch)
        self._join = jax.jit(_join)
        self._split = jax.jit(_split, static_argnums=1)
        # (image shape, bucket) -> seconds: what decides between padding and leaving some waiting
        self._seconds: dict[tuple[tuple[int, ...], int], float] = {}
        self._arrivals: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting: list[_Request] = []  # the worker's own, oldest first
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="policy", daemon=True)
        self._thread.start()

    async def step(self, state: Any, image: np.ndarray, embedding: np.ndarray) -> StepResult:
        """One control step of one robot.

        Args:
          state: from the step before; None at the start of an episode.
          image: uint8 [h, w, 3].
          embedding: float32 [d].

        Raises:
          BatcherClosedError: the batcher was closed.
          Exception: whatever the policy raised; the state given is then still good.
        """
        future = asyncio.get_running_loop().create_future()
        request = _Request(state, image, embedding, future)
        with self._closing:  # nothing may arrive behind the None of `close`
            if self._closed:
                raise BatcherClosedError("the server is stopping")
            self._arrivals.put(request)
        return await future

    def warm(
        self, image_size: tuple[int, int], go_on: Callable[[], bool] = lambda: True
    ) -> dict[int, float]:
        """Compiles and runs every batch size for frames of `image_size` (h, w).

        Blocks; safe beside the worker thread.

        Returns:
          {batch size: seconds of a step}, of those reached while `go_on()`.
        """
        dimensions = self._policy.description.encoder.dimensions
        image = np.zeros((*image_size, 3), np.uint8)
        embedding = np.zeros(dimensions, np.float32)
        seconds = {}
        # The largest first: it needs the most memory, while the process holds the least.
        for bucket in reversed(self.buckets):
            if not go_on():
                break
            states = [self._fresh() for _ in range(bucket)]
            # Twice and once more: a state that has been stepped may hold more than a fresh one.
            for _ in range(3):
                start = time.perf_counter()
                states, _ = self._run(states, [image] * bucket, [embedding] * bucket, bucket)
                seconds[bucket] = time.perf_counter() - start
            self._seconds[image.shape, bucket] = seconds[bucket]
            give_back_memory()  # of the compiler, before the next size needs its own
        return seconds

    def close(self) -> None:
        """Finishes what waits and ends the worker thread. Blocks."""
        with self._closing:
            self._closed = True
            self._arrivals.put(None)
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            start = time.perf_counter()
            outcome: list[StepResult] | Exception
            try:
                outcome = self._serve(batch, start)
            except Exception as error:  # goes to the clients of this batch; the next one may work
                outcome = error
            _hand_over(batch, outcome)

    def _next_batch(self) -> list[_Request]:
        """The oldest request and those like it, or nothing once closed and done."""
        self._gather()
        if not self._waiting:
            return []
        first = self._waiting[0]
        alike = [request for request in self._waiting if request.key == first.key]
        shape = first.image.shape
        known = self._seconds  # never iterated: `warm` may be adding to it
        seconds = {b: known[shape, b] for b in self.buckets if (shape, b) in known}
        batch = alike[: how_many(len(alike), self.buckets, seconds)]
        taken = set(map(id, batch))
        self._waiting = [request for request in self._waiting if id(request) not in taken]
        return batch

    def _gather(self) -> None:
        """Moves what has arrived to what waits; blocks only where nothing waits."""
        while True:
            try:
                request = self._arrivals.get(block=not (self._waiting or self._closed))
            except queue.Empty:
                return
            if request is None:
                continue  # closed: the flag is set, and nothing comes behind this
            try:
                if request.state is None:
                    request.state = self._fresh()
                request.key = request.image.shape, *_structure(request.state)
            except Exception as error:
                _hand_over([request], error)
                continue
            self._waiting.append(request)

    def _fresh(self) -> Any:
        return self._policy.initial_state(1, self._keep)

    def _bucket(self, requests: int) -> int:
        return next(bucket for bucket in self.buckets if bucket >= requests)

    def _serve(self, batch: list[_Request], start: float) -> list[StepResult]:
        bucket = self._bucket(len(batch))
        states, action = self._run(
            [request.state for request in batch],
            [request.image for request in batch],
            [request.embedding for request in batch],
            bucket,
        )
        seconds = time.perf_counter() - start
        key = batch[0].image.shape, bucket
        self._seconds[key] = 0.9 * self._seconds.get(key, seconds) + 0.1 * seconds
        self._on_batch(len(batch), bucket, seconds)
        return [
            StepResult(
                states[i],
                {name: value[i] for name, value in action.items()},
                len(batch),
                start - request.arrived,
                seconds,
            )
            for i, request in enumerate(batch)
        ]

    def _run(
        self,
        states: list[Any],
        images: list[np.ndarray],
        embeddings: list[np.ndarray],
        bucket: int,
    ) -> tuple[list[Any], dict[str, np.ndarray]]:
        if bucket == 1:
            state, action = self._policy.step(states[0], images[0][None], embeddings[0][None])
            return [state], {name: np.asarray(value) for name, value in action.items()}
        # The last robot stands in for those that are missing; its copies are thrown away.
        joined = self._join(_padded(states, bucket))
        state, action = self._policy.step(
            joined, np.stack(_padded(images, bucket)), np.stack(_padded(embeddings, bucket))
        )
        numbers = {name: np.asarray(value) for name, value in action.items()}
        return self._split(state, bucket), numbers


def bucket_sizes(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `max_batch`."""
    if max_batch < 1:
        raise ValueError(f"max_batch is {max_batch}, expected at least 1")
    powers = [1 << i for i in range(max_batch.bit_length())]
    return tuple(sorted({*(p for p in powers if p < max_batch), max_batch}))


def how_many(waiting: int, buckets: Sequence[int], seconds: Mapping[int, float]) -> int:
    """How many of those waiting to serve now: all, padded, or fewer that fill a bucket.

    Whichever serves more a second. On a CPU, where a batch costs what its rows cost, padding is
    waste; on an accelerator it is free.

    Args:
      waiting: at least one.
      buckets: the sizes of batches, ascending.
      seconds: of a batch of each size; may lack some, and then all are served.
    """
    waiting = min(waiting, buckets[-1])
    above = next(bucket for bucket in buckets if bucket >= waiting)
    if above == waiting:
        return waiting
    below = max(bucket for bucket in buckets if bucket < waiting)
    if not {above, below} <= seconds.keys():
        return waiting
    return waiting if waiting / seconds[above] >= below / seconds[below] else below


@dataclasses.dataclass(eq=False)
class _Request:
    state: Any
    image: np.ndarray
    embedding: np.ndarray
    future: asyncio.Future[StepResult]
    arrived: float = dataclasses.field(default_factory=time.perf_counter)
    key: Any = None


def _hand_over(batch: list[_Request], outcome: list[StepResult] | Exception) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        batch[0].future.get_loop().call_soon_threadsafe(_deliver, batch, outcome)


def _deliver(batch: list[_Request], outcome: list[StepResult] | Exception) -> None:
    for i, request in enumerate(batch):
        if request.future.done():  # cancelled: the connection is gone
            continue
        if isinstance(outcome, Exception):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome[i])


def _structure(state: Any) -> tuple[Any, ...]:
    """What two states must share to go into one batch."""
    leaves, structure = jax.tree.flatten(state)
    return structure, *((leaf.shape[1:], leaf.dtype) for leaf in leaves)


def _padded(items: list[Any], size: int) -> list[Any]:
    return items + items[-1:] * (size - len(items))


# Both are jitted, so that states stay on the device and a batch costs two calls, not two for each
# robot and leaf.
def _join(states: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *states)


def _split(state: Any, size: int) -> list[Any]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], state) for i in range(size)]

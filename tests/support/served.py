"""A small policy, and a server of it in a thread of the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import jax
import numpy as np
import small

from rt1_jax.actions import TABLETOP
from rt1_jax.models.rt1 import RT1
from rt1_jax.policies.streaming import Policy
from rt1_jax.serving.client import PolicyClient
from rt1_jax.serving.server import PolicyServer, Settings
from rt1_jax.serving.service import PolicyService

FRAMES = 3
MAX_BATCH = 4


class HashPolicy(Policy):
    """Embeds by hashing."""

    def embed(self, instructions):
        return small.HashEncoder().embed(instructions)


@functools.cache
def small_policy() -> HashPolicy:
    """Random weights, 16 x 16 pixels, three frames; listens to its instruction."""
    config = small.small_model(FRAMES, embedding_size=6)
    model = RT1(config)
    images = jax.ShapeDtypeStruct((1, FRAMES, 16, 16, 3), np.uint8)
    embeddings = jax.ShapeDtypeStruct((1, 6), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images, embeddings)
    rng = np.random.default_rng(0)
    variables = {
        "params": jax.tree.map(lambda s: _normal(rng, s.shape) * 0.3, shapes["params"]),
        "batch_stats": jax.tree.map(lambda s: np.ones(s.shape, "f4"), shapes["batch_stats"]),
    }
    description = small.policy_description("rt1", config, step=7)
    return HashPolicy(model, variables, description)


def _normal(rng, shape):
    return rng.normal(size=shape).astype(np.float32)


class Served:
    """A server that is running; `stop` may be called early."""

    def __init__(self, service: PolicyService, settings: Settings) -> None:
        self.service = service
        self._settings = settings
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.server = self.call(self._make())
        self.port = self.call(self.server.start())
        self.stopped = False

    async def _make(self):
        return PolicyServer(self.service, self._settings)

    def call(self, coroutine, timeout=60):
        """Runs a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def warm(self):
        self.call(self.server.warm())

    def stop(self):
        if not self.stopped:
            self.stopped = True
            self.call(self.server.stop())

    def end(self):
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def client(self, **arguments) -> PolicyClient:
        scheme = "wss" if self._settings.tls else "ws"
        return PolicyClient(f"{scheme}://127.0.0.1:{self.port}", **arguments)

    def get(self, path, headers=None) -> tuple[int, str]:
        """Status and text of a page."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers=headers or {}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def tasks(self) -> int:
        """How many tasks the server's loop holds, this question aside."""

        async def count():
            return len(asyncio.all_tasks()) - 1

        return self.call(count())


@contextlib.contextmanager
def serving(policy=None, warm=True, service=None, **settings) -> Iterator[Served]:
    """Serves the small policy (or another) on a free port of loopback."""
    made = PolicyService(policy or small_policy(), **{"max_batch": MAX_BATCH, **(service or {})})
    served = Served(made, Settings(port=0, **settings))
    try:
        if warm:
            served.warm()
        yield served
    finally:
        served.end()


def frames(robot: int, steps: int, size=(16, 16)) -> np.ndarray:
    """What a robot sees: uint8 [steps, h, w, 3]."""
    return np.random.default_rng(robot).integers(0, 255, (steps, *size, 3), np.uint8)


def instruction(robot: int) -> str:
    return f"find thing {robot}"


def bare_actions(robot: int, steps: int) -> np.ndarray:
    """The actions of the bare policy for that robot: float32 [steps, 13]."""
    policy = small_policy()
    state, embedding = policy.initial_state(1), policy.embed([instruction(robot)])
    actions = []
    for image in frames(robot, steps):
        state, action = policy.step(state, image[None], embedding)
        actions.append(np.concatenate([np.asarray(action[f])[0] for f in TABLETOP.field_names]))
    return np.asarray(actions, np.float32)

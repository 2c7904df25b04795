"""Closed loop: one batched policy in this process, environments in others, in lock step.

Every round each slot gets one command (act, or start the next episode) and gives one frame. Which
episode runs in which slot, and so what is in the policy's batch at every step, follows from the
episodes' lengths alone: results do not depend on the number of processes or on their timing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from rt1_jax.evaluation.episodes import EpisodeRequest, EpisodeResult
from rt1_jax.evaluation.film import Film, FilmShelf
from rt1_jax.evaluation.pool import EnvironmentPool
from rt1_jax.evaluation.worker import Command, Frame, Start, Step

DEFAULT_SLOTS = 16


class ActingPolicy(Protocol):
    """What a rollout needs of a policy; `rt1_jax.load_policy` gives one."""

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first frame of each of `batch_size` episodes."""

    def reset(self, state: Any, mask: np.ndarray) -> Any:
        """The state with new episodes where `mask`, bool [batch], is true."""

    def step(
        self, state: Any, images: np.ndarray, embeddings: np.ndarray
    ) -> tuple[Any, Mapping[str, Any]]:
        """uint8 [b, h, w, 3], float32 [b, d] -> the next state, {field: [b, size]}."""

    def embed(self, instructions: Sequence[str]) -> np.ndarray:
        """n instructions -> float32 [n, d]."""


def rollout(
    policy: ActingPolicy,
    requests: Sequence[EpisodeRequest],
    pool: EnvironmentPool,
    *,
    slots: int = DEFAULT_SLOTS,
    films: FilmShelf | None = None,
    on_result: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Runs a policy through episodes.

    Args:
      policy: steps `slots` robots at once.
      requests: the episodes, started in this order.
      pool: runs the environments.
      slots: the policy's batch size and the number of environments that run at once; fewer when
        there are fewer episodes.
      films: gets a film of every episode.
      on_result: called as each episode ends.

    Returns:
      results in the order of the requests' index.

    Raises:
      RolloutError: an environment process failed.
    """
    slots = max(1, min(slots, len(requests)))
    waiting = deque(requests)
    embed = _Embedder(policy)
    state = policy.initial_state(batch_size=slots)
    running: dict[int, Film] = {}
    images: np.ndarray | None = None  # [slots, h, w, 3]
    embeddings: np.ndarray | None = None  # [slots, dimensions]
    actions: list[dict[str, np.ndarray]] = []
    results: list[EpisodeResult] = []

    while waiting or running:
        commands: dict[int, Command] = {}
        fresh = np.zeros(slots, bool)
        for slot in range(slots):
            if slot in running:
                commands[slot] = Step(actions[slot])
            elif waiting:
                commands[slot] = Start(waiting.popleft())
                fresh[slot] = True
        frames = pool.exchange(commands)
        for slot, frame in frames.items():
            if images is None:
                images = np.zeros((slots, *frame.image.shape), np.uint8)
            if fresh[slot]:
                running[slot] = Film()
                vector = embed(frame.told or "")
                if embeddings is None:
                    embeddings = np.zeros((slots, vector.size), np.float32)
                embeddings[slot] = vector
            else:
                _record_action(running[slot], images[slot], actions[slot], frame)
            images[slot] = frame.image
            if frame.result is not None:
                film = running.pop(slot)
                film.result = frame.result
                results.append(frame.result)
                if films is not None:
                    films.add(film)
                if on_result is not None:
                    on_result(frame.result)
        if running and images is not None and embeddings is not None:
            if fresh.any():
                state = policy.reset(state, fresh)
            state, batch = policy.step(state, images, embeddings)
            actions = _split_batch(batch, slots)
    return sorted(results, key=lambda result: result.request.index)


class _Embedder:
    """Embeds one sentence at a time, so that no vector depends on its batch, and remembers it."""

    def __init__(self, policy: ActingPolicy) -> None:
        self._policy = policy
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, text: str) -> np.ndarray:
        if text not in self._known:
            self._known[text] = np.asarray(self._policy.embed([text]), np.float32)[0]
        return self._known[text]


def _record_action(
    film: Film, image: np.ndarray, action: dict[str, np.ndarray], frame: Frame
) -> None:
    film.images.append(image.copy())
    film.actions.append(action)
    film.goal_holds.append(frame.goal_holds)


def _split_batch(batch: Mapping[str, Any], slots: int) -> list[dict[str, np.ndarray]]:
    """{field: [slots, size]} -> one {field: [size]} a slot."""
    arrays = {name: np.asarray(value) for name, value in batch.items()}
    return [{name: value[slot] for name, value in arrays.items()} for slot in range(slots)]

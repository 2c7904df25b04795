"""What runs in an environment process: a few environments, answering commands.

The parent drives all environments in lock step, so nothing here depends on timing. Physics and
rendering live here; the policy does not, and neither does JAX.
"""

from __future__ import annotations

import dataclasses
import signal
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from rt1_jax.evaluation.environment import EnvironmentFactory
from rt1_jax.evaluation.episodes import (
    WRONG_INSTRUCTION,
    EpisodeRequest,
    EpisodeResult,
)


@dataclasses.dataclass(frozen=True)
class Start:
    """Begin an episode in a slot."""

    request: EpisodeRequest


@dataclasses.dataclass(frozen=True)
class Step:
    """Act once in a slot: {field: [size]}."""

    action: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class RunExpert:
    """Run a whole episode with the scripted expert."""

    request: EpisodeRequest


@dataclasses.dataclass(frozen=True)
class Frame:
    """Answer to `Start` and `Step`: what the camera sees now, and how the episode stands.

    Attributes:
      image: uint8 [h, w, 3].
      told: the instruction for the policy, after `Start` only.
      goal_holds: the physical goal holds now.
      result: set when the episode is over.
    """

    image: np.ndarray
    told: str | None = None
    goal_holds: bool = False
    result: EpisodeResult | None = None


@dataclasses.dataclass(frozen=True)
class Failure:
    """Answer in place of any other when something raised."""

    where: str
    message: str
    traceback: str


Command = Start | Step | RunExpert
Answer = Frame | EpisodeResult | Failure


def serve(connection: Connection, factory: EnvironmentFactory) -> None:
    """Answers lists of (slot, command) with lists of (slot, answer) until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and closes us
    slots: dict[int, _Slot] = {}
    try:
        while True:
            commands: list[tuple[int, Command]] | None = connection.recv()
            if commands is None:
                return
            connection.send([(slot, _answer(slots, slot, c, factory)) for slot, c in commands])
    except (EOFError, BrokenPipeError):
        return
    finally:
        for slot in slots.values():
            slot.close()


def _answer(
    slots: dict[int, _Slot], number: int, command: Command, factory: EnvironmentFactory
) -> Answer:
    slot = slots.setdefault(number, _Slot(factory))
    try:
        if isinstance(command, Start):
            return slot.start(command.request)
        if isinstance(command, Step):
            return slot.step(command.action)
        return slot.run_expert(command.request)
    except Exception as error:
        where = str(command.request if not isinstance(command, Step) else slot.request)
        summary = f"{type(error).__name__}: {error}"
        return Failure(where, summary, traceback.format_exc())


class _Slot:
    """One environment at a time and the episode that runs in it."""

    def __init__(self, factory: EnvironmentFactory) -> None:
        self._factory = factory
        self._env: Any = None
        self._split: str | None = None
        self.request: EpisodeRequest | None = None
        self._instruction = self._told = ""
        self._steps = 0
        self._first_terminate: int | None = None
        self._goal_at_first_terminate: bool | None = None

    def start(self, request: EpisodeRequest) -> Frame:
        self.request = request
        if self._split != request.split:
            self.close()
            self._env = self._factory.make(request.split)
            self._split = request.split
        observation, _ = self._env.reset(seed=request.seed, options={"skill": request.skill})
        self._instruction = self._told = observation["instruction"]
        if request.condition == WRONG_INSTRUCTION:
            self._told = self._env.wrong_instruction(request.seed)
        self._steps = 0
        self._first_terminate = self._goal_at_first_terminate = None
        return Frame(observation["image"], told=self._told)

    def step(self, action: Mapping[str, np.ndarray]) -> Frame:
        if self.request is None:
            raise RuntimeError("a step before the start of an episode")
        observation, _, terminated, truncated, info = self._env.step(action)
        self._steps += 1
        goal_holds = bool(info["success"])
        if info["terminate"] and self._first_terminate is None:
            self._first_terminate = self._steps
            self._goal_at_first_terminate = goal_holds
        result = None
        if terminated or truncated:
            result = EpisodeResult(
                request=self.request,
                instruction=self._instruction,
                told=self._told,
                success=bool(terminated),
                steps=self._steps,
                first_terminate=self._first_terminate,
                goal_at_first_terminate=self._goal_at_first_terminate,
            )
        return Frame(observation["image"], goal_holds=goal_holds, result=result)

    def run_expert(self, request: EpisodeRequest) -> EpisodeResult:
        self.start(request)
        expert = self._factory.make_expert(self._env)
        while True:
            frame = self.step(expert.act())
            if frame.result is not None:
                return frame.result

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = self._split = None

"""What is run and what comes out: one request and one result an episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

POLICY = "policy"
WRONG_INSTRUCTION = "wrong_instruction"
EXPERT = "expert"
CONDITIONS = (POLICY, WRONG_INSTRUCTION, EXPERT)

ALL_SKILLS = "all"


class EvaluationError(ValueError):
    """Something asked for that cannot be evaluated; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class EpisodeRequest:
    """One episode to run.

    Attributes:
      index: its place in the plan; results are given in this order.
      condition: who acts, and what they are told: one of `CONDITIONS`.
      split: the environment's split.
      skill: the skill asked for.
      seed: of the environment's reset, so that scene and task are the same in every condition.
    """

    index: int
    condition: str
    split: str
    skill: str
    seed: int

    def __str__(self) -> str:
        return f"{self.condition} on split {self.split}, skill {self.skill}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class EpisodeResult:
    """What happened in one episode.

    Attributes:
      request: what was asked for.
      instruction: the scene's own instruction, by which success is judged.
      told: what the policy was told; differs from `instruction` under a wrong instruction.
      success: the environment found the physical goal reached and held. Never the policy's word.
      steps: control steps until the goal was held or the step limit came.
      first_terminate: control step (from 1) of the first terminate action, None without one.
      goal_at_first_terminate: whether the goal physically held after that step.
    """

    request: EpisodeRequest
    instruction: str
    told: str
    success: bool
    steps: int
    first_terminate: int | None
    goal_at_first_terminate: bool | None

    def to_json(self) -> dict[str, Any]:
        """One flat, JSON-able object."""
        record = dataclasses.asdict(self)
        return {**record.pop("request"), **record}


def plan_episodes(
    *,
    tasks: Mapping[str, Sequence[str]],
    episodes: int,
    seed: int,
    controls: Sequence[str] = (),
) -> list[EpisodeRequest]:
    """The episodes of an evaluation.

    Each split gets `episodes` episodes, shared evenly among the skills (the first skills get one
    more where it does not come out even). Episode i has seed `seed + i` in every split and under
    every condition, so that conditions are compared on the same scenes.

    Args:
      tasks: {split: skills}, at least one of each.
      episodes: per split and condition.
      seed: of the first episode.
      controls: of `WRONG_INSTRUCTION` and `EXPERT`.

    Raises:
      EvaluationError: nothing to run, or an unknown control.
    """
    if episodes < 1 or not tasks or not all(tasks.values()):
        named = {split: list(skills) for split, skills in tasks.items()}
        raise EvaluationError(
            f"nothing to evaluate: {episodes} episodes of {named}; give at least one episode, "
            "split and skill"
        )
    for control in controls:
        if control not in (WRONG_INSTRUCTION, EXPERT):
            raise EvaluationError(
                f"unknown control {control!r}: expected {WRONG_INSTRUCTION!r} or {EXPERT!r}"
            )
    plan: list[EpisodeRequest] = []
    for condition in (POLICY, *(c for c in CONDITIONS if c in controls)):
        for split, skills in tasks.items():
            for i in range(episodes):
                skill = skills[i % len(skills)]
                plan.append(EpisodeRequest(len(plan), condition, split, skill, seed + i))
    return plan

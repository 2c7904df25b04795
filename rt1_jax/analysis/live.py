"""Live episodes of the tabletop to look at, with where the objects are in the picture.

The environment renders in a process of its own: Mesa's renderer does not live beside TensorFlow,
which some policies' encoders need (docs/tabletop.md).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rt1_jax.analysis.scenes import (
    OTHER_OBJECT,
    OTHER_SKILL,
    OWN,
    REWORDED,
    Scene,
    SceneError,
    Told,
)

_TIMEOUT = 300.0  # seconds that the environment may take to answer


def live_scenes(
    policy: Any,
    environment: str,
    *,
    split: str,
    skills: Sequence[str],
    seed: int,
    episodes: int,
    asked: Sequence[Told] | None = None,
    on_step: Callable[[], Any] = lambda: None,
) -> list[Scene]:
    """Lets a policy drive, told the scenes' own instructions.

    Args:
      policy: from `rt1_jax.load_policy`.
      environment: of `rt1_jax.envs.ENVIRONMENTS`.
      split: of the environment.
      skills: taken in turn.
      seed: of the first episode; the next ones count up.
      episodes: how many.
      asked: instructions to look with beside the own one; by default the same task in other words,
        the same skill with every other object in the scene, and another skill with the same object.
      on_step: called after each control step.

    Raises:
      EvaluationError: an unknown environment, split or skill.
      SceneError: the environment failed.
    """
    from rt1_jax.evaluation.environment import choose_tasks

    chosen = choose_tasks(environment, [split], skills)[split]
    settings = {
        "split": split,
        "skills": chosen,
        "image_size": tuple(policy.description.image_size),
    }
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, environment, settings), daemon=True)
    process.start()
    theirs.close()

    def ask(question: Any) -> dict[str, Any]:
        try:
            ours.send(question)
            answer = ours.recv() if ours.poll(_TIMEOUT) else "it does not answer"
        except (EOFError, OSError) as error:
            answer = f"its process ended ({type(error).__name__})"
        if isinstance(answer, str):
            raise SceneError(f"environment {environment!r} failed: {answer}")
        return answer

    try:
        scenes = []
        for i in range(episodes):
            start = ask(("start", seed + i, chosen[i % len(chosen)]))
            frames, success = _drive(policy, start, ask, on_step)
            own, *others = start["told"]
            places = np.stack([frame["places"] for frame in frames], 1)  # [objects, t, 2]
            scenes.append(
                Scene(
                    f"{start['skill']}, seed {seed + i}",
                    np.stack([frame["image"] for frame in frames]),
                    (own, *(others if asked is None else asked)),
                    dict(zip(start["objects"], places, strict=True)),
                    success,
                )
            )
        return scenes
    finally:
        ours.close()
        process.join(5)
        process.kill()


def _drive(
    policy: Any, start: dict[str, Any], ask: Callable[[Any], dict[str, Any]], on_step: Callable
) -> tuple[list[dict[str, Any]], bool]:
    """Every frame that the policy acted on, and whether the goal was reached."""
    embedding = np.asarray(policy.embed([start["told"][0].text]), np.float32)
    state, frame, frames = policy.initial_state(batch_size=1), start, []
    while not frame.get("over"):
        frames.append(frame)
        state, action = policy.step(state, frame["image"][None], embedding)
        frame = ask(("step", {name: np.asarray(value)[0] for name, value in action.items()}))
        on_step()
    return frames, bool(frame["success"])


def _serve(connection: Any, environment: str, settings: Mapping[str, Any]) -> None:
    """The environment's process: answers start and step until the other end closes."""
    from rt1_jax import envs

    try:
        env = envs.make(environment, **settings)
        while True:
            what, *arguments = connection.recv()
            if what == "start":
                seed, skill = arguments
                observation, _ = env.reset(seed=seed, options={"skill": skill})
                answer = {
                    "skill": skill,
                    "told": _instructions(env, observation["instruction"]),
                    "objects": [kind.name for kind in env.objects],
                }
            else:
                observation, _, terminated, truncated, _ = env.step(arguments[0])
                answer = {"over": terminated or truncated, "success": terminated}
            connection.send({**answer, "image": observation["image"], "places": _places(env)})
    except EOFError:
        return
    except Exception as error:  # told to the other side, which ends
        connection.send(f"{type(error).__name__}: {error}")


def _places(env: Any) -> np.ndarray:
    """(row, column) of every object's centre: [objects, 2] pixels."""
    from rt1_jax.envs.camera import to_pixels

    state = env.scene_state
    points = np.stack([state.in_base(position) for position in state.positions])
    return to_pixels(points, env.image_size)


def _instructions(env: Any, own: str) -> list[Told]:
    """The scene's own instruction and others that are valid in it."""
    from rt1_jax.envs.instructions import WORDINGS, instruction
    from rt1_jax.envs.tasks import Task, admits

    task, objects = env.task, env.objects
    names = [kind.name for kind in objects]
    wordings = [instruction(task, objects, i) for i in range(len(WORDINGS[task.skill]))]
    wording = wordings.index(own)
    named = None if task.target is None else names[task.target]
    told = [
        Told(own, OWN, named),
        Told(wordings[(wording + 1) % len(wordings)], REWORDED, named),
    ]

    def add(kind: str, other: Task, wording: int) -> None:
        told.append(Told(instruction(other, objects, wording), kind, names[int(other.target or 0)]))

    slots = range(len(objects))
    if task.target is None:
        for slot in slots:
            add(OTHER_SKILL, Task("pick", slot), 0)
        return told
    for slot in slots:
        if slot == task.target or not admits(task.skill, objects[slot]):
            continue
        reference = task.target if slot == task.reference else task.reference
        add(OTHER_OBJECT, Task(task.skill, slot, reference, task.receptacle), wording)
    if task.skill == "pick":
        beside = min(slot for slot in slots if slot != task.target)
        add(OTHER_SKILL, Task("move_near", task.target, beside), 0)
    else:
        add(OTHER_SKILL, Task("pick", task.target), 0)
    return told

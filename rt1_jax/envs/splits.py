"""What each split holds out or adds, after the RT-1 paper's generalisation tests.

seen                 the pairings and objects that training data are made of
unseen_tasks         (skill, object) pairings that training never shows; each object is trained
                     with other skills
unseen_objects       colour-shape pairs that training never shows, target and perhaps others
distractors_easy     three more objects, of other colours and shapes than the target
distractors_medium   three more objects of the target's shape
distractors_hard     three more objects of the target's colour
distractors          one of the three levels, drawn for each episode
backgrounds          other table looks and lights
"""

from __future__ import annotations

import dataclasses

import numpy as np

from rt1_jax.envs.objects import COLOURS, ObjectType, all_objects
from rt1_jax.envs.scene import BACKGROUNDS
from rt1_jax.envs.tasks import RECEPTACLES, SKILLS, Task, admits

SPLITS = (
    "seen",
    "unseen_tasks",
    "unseen_objects",
    "distractors_easy",
    "distractors_medium",
    "distractors_hard",
    "backgrounds",
)
"""The splits to report. `"distractors"` (a mixture of the three levels) is accepted, too."""

DISTRACTOR_LEVELS = ("easy", "medium", "hard")
BASE_OBJECTS = 4
"""Objects on the table, all of different colours."""
DISTRACTORS = 3
"""Objects that a distractor split adds."""

UNSEEN_OBJECTS = tuple(
    ObjectType.parse(name)
    for name in ("red bottle", "green ball", "blue can", "yellow block", "orange bottle")
)
"""Colour-shape pairs that only `unseen_objects` shows."""
SEEN_OBJECTS = tuple(kind for kind in all_objects() if kind not in UNSEEN_OBJECTS)

UNSEEN_TASKS: dict[str, tuple[ObjectType, ...]] = {
    skill: tuple(ObjectType.parse(name) for name in names)
    for skill, names in {
        "pick": ("red can", "blue ball", "purple block"),
        "move_near": ("green block", "yellow can", "orange ball"),
        "knock": ("purple can", "green bottle"),
        "upright": ("orange can", "blue bottle"),
        "place_into": ("red block", "purple bottle", "green can"),
    }.items()
}
"""Targets that a skill is never trained with; no object is held out from two skills."""


class SplitError(ValueError):
    """An unknown split or skill, or a combination that holds nothing."""


@dataclasses.dataclass(frozen=True)
class Look:
    """Table look and light of an episode.

    Attributes:
      background: one of `rt1_jax.envs.scene.BACKGROUNDS`.
      light: RGB factors on the light's colour.
      sun: the light's direction.
    """

    background: str = BACKGROUNDS[0]
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sun: tuple[float, float, float] = (0.25, 0.35, -1.0)


def check(split: str, skills: tuple[str, ...]) -> None:
    """Raises SplitError unless split and skills exist and go together."""
    if split not in (*SPLITS, "distractors"):
        raise SplitError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    if not skills:
        raise SplitError(f"no skills given: expected some of {', '.join(SKILLS)}")
    for skill in skills:
        if skill not in SKILLS:
            raise SplitError(f"unknown skill {skill!r}: expected some of {', '.join(SKILLS)}")
        if skill not in skills_of(split):
            raise SplitError(
                f"split {split!r} holds no task of skill {skill!r}, which handles no object: leave "
                f"the skill out"
            )


def skills_of(split: str) -> tuple[str, ...]:
    """The skills that a split can test: the drawer skills handle no object to be held out.

    All of them for an unknown split; `check` is what complains.
    """
    if split in ("unseen_tasks", "unseen_objects"):
        return tuple(skill for skill in SKILLS if targets(split, skill))
    return SKILLS


def num_objects(split: str) -> int:
    """Objects on the table in every episode of a split."""
    return BASE_OBJECTS + (DISTRACTORS if split.startswith("distractors") else 0)


def targets(split: str, skill: str) -> tuple[ObjectType, ...]:
    """The objects that may be a skill's target in a split."""
    if split == "unseen_tasks":
        return UNSEEN_TASKS.get(skill, ())
    pool = UNSEEN_OBJECTS if split == "unseen_objects" else SEEN_OBJECTS
    held_out = UNSEEN_TASKS.get(skill, ())
    return tuple(kind for kind in pool if admits(skill, kind) and kind not in held_out)


def sample_task(
    rng: np.random.Generator, split: str, skill: str
) -> tuple[Task, tuple[ObjectType, ...]]:
    """Draws a task and what lies on the table; slots are in random order."""
    pool = all_objects() if split == "unseen_objects" else SEEN_OBJECTS
    candidates = targets(split, skill)
    first = _choice(rng, candidates or pool)
    kinds = [first]
    colours = [colour for colour in COLOURS if colour != first.colour]
    for colour in rng.permutation(colours)[: BASE_OBJECTS - 1]:
        kinds.append(_choice(rng, tuple(kind for kind in pool if kind.colour == colour)))
    if split.startswith("distractors"):
        kinds += _distractors(rng, split, kinds)
    order = rng.permutation(len(kinds))
    objects = tuple(kinds[i] for i in order)
    slot = {int(i): place for place, i in enumerate(order)}
    if skill in ("open_drawer", "close_drawer"):
        return Task(skill), objects
    if skill == "move_near":
        return Task(skill, slot[0], reference=slot[1]), objects
    if skill == "place_into":
        return Task(skill, slot[0], receptacle=RECEPTACLES[rng.integers(2)]), objects
    return Task(skill, slot[0]), objects


def sample_look(rng: np.random.Generator, split: str) -> Look:
    """Table look and light of an episode."""
    if split != "backgrounds":
        return Look()
    light = rng.uniform(0.65, 1.25) * rng.uniform(0.88, 1.12, size=3)
    sun = (*rng.uniform(-0.7, 0.7, size=2), -1.0)
    return Look(
        BACKGROUNDS[rng.integers(1, len(BACKGROUNDS))],
        tuple(float(v) for v in light),  # type: ignore[arg-type]
        tuple(float(v) for v in sun),  # type: ignore[arg-type]
    )


def _distractors(rng: np.random.Generator, split: str, kinds: list[ObjectType]) -> list[ObjectType]:
    level = split.partition("_")[2] or _choice(rng, DISTRACTOR_LEVELS)
    target = kinds[0]

    def fits(kind: ObjectType) -> bool:
        if kind in kinds:
            return False
        if level == "easy":
            return kind.colour != target.colour and kind.shape != target.shape
        if level == "medium":
            return kind.shape == target.shape
        return kind.colour == target.colour

    seen = [kind for kind in SEEN_OBJECTS if fits(kind)]
    # Few colours have four seen shapes; the scene is filled up with easy ones to a fixed number.
    others = [
        kind
        for kind in SEEN_OBJECTS
        if kind not in kinds and kind.colour != target.colour and kind.shape != target.shape
    ]
    chosen = [seen[i] for i in rng.permutation(len(seen))[:DISTRACTORS]]
    spare = [others[i] for i in rng.permutation(len(others)) if others[i] not in chosen]
    return chosen + spare[: DISTRACTORS - len(chosen)]


def _choice(rng, options):  # type: ignore[no-untyped-def]
    return options[int(rng.integers(len(options)))]

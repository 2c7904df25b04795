"""Instructions in plain English, several wordings a skill.

The object's name follows its verb and the reference follows "near", "next to" or "beside", so that
word order tells the two apart.
"""

from __future__ import annotations

from rt1_jax.envs.objects import ObjectType
from rt1_jax.envs.tasks import Task

WORDINGS: dict[str, tuple[str, ...]] = {
    "pick": (
        "pick up the {x}",
        "pick the {x}",
        "grab the {x}",
        "lift the {x}",
        "take the {x}",
    ),
    "move_near": (
        "move the {x} near the {y}",
        "move the {x} next to the {y}",
        "bring the {x} near the {y}",
        "put the {x} next to the {y}",
        "put the {x} beside the {y}",
    ),
    "knock": (
        "knock over the {x}",
        "knock the {x} over",
        "tip over the {x}",
        "push over the {x}",
    ),
    "upright": (
        "place the {x} upright",
        "stand the {x} upright",
        "set the {x} upright",
        "turn the {x} upright",
    ),
    "open_drawer": (
        "open the drawer",
        "pull open the drawer",
        "pull out the drawer",
        "slide the drawer open",
    ),
    "close_drawer": (
        "close the drawer",
        "shut the drawer",
        "push the drawer shut",
        "slide the drawer closed",
    ),
    "place_into": (
        "place the {x} into the {z}",
        "put the {x} into the {z}",
        "drop the {x} into the {z}",
        "put the {x} in the {z}",
        "place the {x} in the {z}",
    ),
}


def instruction(task: Task, objects: tuple[ObjectType, ...], wording: int) -> str:
    """The sentence for a task.

    Args:
      task: what is asked for.
      objects: what each slot holds.
      wording: index into `WORDINGS[task.skill]`.
    """
    return WORDINGS[task.skill][wording].format(
        x="" if task.target is None else objects[task.target].name,
        y="" if task.reference is None else objects[task.reference].name,
        z=task.receptacle,
    )

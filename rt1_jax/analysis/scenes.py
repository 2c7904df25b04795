"""Episodes to look at, and what the policy is told while it looks: recorded ones are read here.

Live ones come from `rt1_jax.analysis.live`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

OWN = "own"
REWORDED = "same task, other words"
OTHER_OBJECT = "another object"
OTHER_SKILL = "another skill"
OTHER = "another instruction"
KINDS = (REWORDED, OTHER_OBJECT, OTHER_SKILL, OTHER)
"""How an instruction differs from the scene's own."""

_OTHERS = 4  # instructions of a dataset that an episode is looked at with


class SceneError(ValueError):
    """Episodes or instructions that cannot be had; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Told:
    """An instruction for a scene.

    Attributes:
      text: the sentence.
      kind: OWN, or one of `KINDS`.
      named: the object it asks to handle, where the environment says so.
    """

    text: str
    kind: str
    named: str | None = None


@dataclasses.dataclass(frozen=True)
class Scene:
    """An episode's frames and the instructions to look at them with.

    Attributes:
      name: for people and for results.
      images: uint8 [t, h, w, 3].
      told: the scene's own instruction first.
      places: {object: [t, 2]}, (row, column) of its centre on each frame, in pixels; empty where
        unknown.
      success: whether the goal was reached, None where unknown.
    """

    name: str
    images: np.ndarray
    told: tuple[Told, ...]
    places: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    success: bool | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        height, width = self.images.shape[1:3]
        return height, width


def asked_instructions(text: str | None) -> tuple[Told, ...] | None:
    """The instructions of a flag, separated by semicolons; None for an absent flag.

    Raises:
      SceneError: one of them is empty.
    """
    if text is None:
        return None
    sentences = [part.strip() for part in text.split(";")]
    if not all(sentences):
        raise SceneError(
            f"--instructions={text!r} holds an empty instruction: give sentences separated by ;"
        )
    return tuple(Told(sentence, OTHER) for sentence in sentences)


def recorded_scenes(
    policy: Any,
    dataset: str | pathlib.Path,
    *,
    first: int,
    episodes: int,
    asked: Sequence[Told] | None = None,
) -> tuple[list[Scene], Callable[[str], np.ndarray]]:
    """Episodes [first, first + episodes) of a dataset, fewer at its end.

    Without `asked`, each is looked at with some other instructions of the dataset; the objects that
    these name need not be in the scene.

    Returns:
      the scenes, and a function that embeds an instruction: with the dataset's stored vectors where
      they are of the policy's encoder, else anew.

    Raises:
      DatasetError: the dataset is missing or damaged.
      SceneError: the dataset has no such episode.
    """
    from rt1_jax.data.store import StepStore
    from rt1_jax.language import EncoderMismatchError, check_same_encoder

    store = StepStore.open(dataset)
    if not 0 <= first < len(store):
        raise SceneError(
            f"--episode={first}: {dataset} has {len(store)} episodes, 0 to {len(store) - 1}"
        )
    stored: dict[str, np.ndarray] = {}
    try:
        check_same_encoder(policy.description.encoder, store.encoder)
        stored = dict(zip(store.instructions, store.embeddings, strict=True))
    except EncoderMismatchError:
        pass

    def embed(text: str) -> np.ndarray:
        if text not in stored:
            stored[text] = np.asarray(policy.embed([text]), np.float32)[0]
        return stored[text]

    scenes = []
    for number in range(first, min(first + episodes, len(store))):
        episode = store.read(number)
        others = asked if asked is not None else _others(store.instructions, episode.instruction)
        told = (Told(episode.instruction, OWN), *others)
        scenes.append(Scene(f"episode {number}", episode.images, told))
    return scenes, embed


def _others(instructions: Sequence[str], own: str) -> list[Told]:
    """Instructions spread evenly over the list, counted from the own one."""
    start, count = instructions.index(own), len(instructions)
    chosen = min(_OTHERS, count - 1)
    steps = [1 + (i * (count - 1)) // chosen for i in range(chosen)] if chosen else []
    return [Told(instructions[(start + step) % count], OTHER) for step in steps]

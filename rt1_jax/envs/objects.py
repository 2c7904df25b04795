"""The objects of the tabletop: six colours times four shapes.

Every object stands upright with its own frame's z axis up; that frame sits at half the object's
height. Sizes are in metres, masses in kilograms.
"""

from __future__ import annotations

import dataclasses
import functools

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.06, 0.06),
    "green": (0.05, 0.62, 0.12),
    "blue": (0.08, 0.18, 0.90),
    "yellow": (0.97, 0.87, 0.05),
    "purple": (0.52, 0.10, 0.72),
    "orange": (1.00, 0.45, 0.02),
}
"""Name and linear RGB of each colour; well apart in hue, so that 64×64 frames tell them apart."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """How an object's shape stands, lies and may be handled.

    Attributes:
      name: the word used in instructions.
      radius: half its width, as a gripper or a neighbour meets it.
      height: from the table to its top when it stands.
      mass: in kilograms.
      inertia: principal moments about its centre of mass, kg·m².
      com_z: centre of mass along the object's own axis, from its frame's origin.
      topples: whether it can lie on its side, so that "knock over" and "place upright" make sense.
      has_top: whether one end is the top, so that only one way up is upright.
    """

    name: str
    radius: float
    height: float
    mass: float
    inertia: tuple[float, float, float]
    com_z: float = 0.0
    topples: bool = False
    has_top: bool = False

    @property
    def half_height(self) -> float:
        """Height of the object's frame above the table while it stands."""
        return self.height / 2


def _cylinder_inertia(mass: float, radius: float, height: float) -> tuple[float, float, float]:
    across = mass * (3 * radius**2 + height**2) / 12
    return (across, across, mass * radius**2 / 2)


_MASS = 0.08
BLOCK_HALF = 0.026
BALL_RADIUS = 0.027
CAN_RADIUS, CAN_HEIGHT = 0.026, 0.072
BOTTLE_RADIUS, BOTTLE_HEIGHT = 0.024, 0.092
BOTTLE_BODY_HEIGHT, NECK_RADIUS = 0.058, 0.011

SHAPES: dict[str, Shape] = {
    "block": Shape(
        "block", BLOCK_HALF, 2 * BLOCK_HALF, _MASS, (_MASS * 4 * BLOCK_HALF**2 / 6,) * 3
    ),
    "ball": Shape("ball", BALL_RADIUS, 2 * BALL_RADIUS, _MASS, (_MASS * 0.4 * BALL_RADIUS**2,) * 3),
    "can": Shape(
        "can",
        CAN_RADIUS,
        CAN_HEIGHT,
        _MASS,
        _cylinder_inertia(_MASS, CAN_RADIUS, CAN_HEIGHT),
        topples=True,
    ),
    "bottle": Shape(
        "bottle",
        BOTTLE_RADIUS,
        BOTTLE_HEIGHT,
        _MASS,
        _cylinder_inertia(_MASS, BOTTLE_RADIUS, BOTTLE_HEIGHT * 0.8),
        com_z=-0.012,
        topples=True,
        has_top=True,
    ),
}
"""Block (a cube), ball, can (upright cylinder with a grey lid) and bottle (neck and white cap)."""


@dataclasses.dataclass(frozen=True, order=True)
class ObjectType:
    """A colour and a shape, e.g. the red block."""

    colour: str
    shape: str

    @property
    def name(self) -> str:
        """As instructions say it: ``"red block"``."""
        return f"{self.colour} {self.shape}"

    @property
    def geometry(self) -> Shape:
        """Its shape's sizes."""
        return SHAPES[self.shape]

    @classmethod
    def parse(cls, name: str) -> ObjectType:
        """Reads ``"red block"``; ValueError if there is no such object."""
        colour, _, shape = name.partition(" ")
        if colour not in COLOURS or shape not in SHAPES:
            raise ValueError(
                f"unknown object {name!r}: expected a colour of {', '.join(COLOURS)} and a shape "
                f"of {', '.join(SHAPES)}, such as 'red block'"
            )
        return cls(colour, shape)


@functools.cache
def all_objects() -> tuple[ObjectType, ...]:
    """The 24 colour-shape pairs, in a fixed order."""
    return tuple(ObjectType(colour, shape) for colour in COLOURS for shape in SHAPES)

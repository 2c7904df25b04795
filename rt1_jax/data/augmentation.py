"""Image augmentation on the device, inside jit: pad-and-crop, and colour jitter.

Every sample has a key of its own, so that what happens to it depends neither on the others nor on
how a batch is split. All frames of a window are changed alike unless asked otherwise: motion and
colours between frames are what the policy reads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rt1_jax.preprocessing import random_shift_crop

# A stream of its own beside the shift's. Small numbers would not do: `randint` splits the key that
# it is given, and the halves are the key folded with 0 and 1.
_JITTER_STREAM = 0x6A697474

_JITTER_KEYS = ("brightness", "contrast", "saturation", "hue")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is changed, and by how much at most; the default changes nothing.

    Attributes:
      max_shift: (y, x) in pixels, uniform whole numbers in -max..max; zeros come in at the edges.
      per_frame: every frame of a window draws its own shift and colours, in place of one for all.
      brightness: added, uniform in -brightness..brightness; 1 is the way from black to white.
      contrast: (low, high), uniform; multiplies what a number differs from the window's mean.
      saturation: (low, high), uniform; multiplies what a colour differs from its grey.
      hue: uniform in -hue..hue; turns of the colours about the grey axis, 1/3 takes red to green.

    Raises:
      ValueError: naming the one that is out of its range.
    """

    max_shift: tuple[int, int] = (0, 0)
    per_frame: bool = False
    brightness: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_shift", "contrast", "saturation"):
            pair = tuple(getattr(self, name))
            if len(pair) != 2:
                raise ValueError(f"augmentation: {name} is {pair}, expected two numbers")
            object.__setattr__(self, name, pair)
        if min(self.max_shift) < 0 or any(int(side) != side for side in self.max_shift):
            raise ValueError(
                f"augmentation: max_shift is {self.max_shift}, expected whole pixels (y, x) from 0"
            )
        for name, most in (("brightness", 1.0), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"augmentation: {name} is {getattr(self, name)}, expected 0 to {most:g}"
                )
        for name in ("contrast", "saturation"):
            low, high = getattr(self, name)
            if not 0 <= low <= high < np.inf:
                raise ValueError(
                    f"augmentation: {name} is ({low}, {high}), expected 0 <= low <= high; "
                    "(1, 1) changes nothing"
                )

    @classmethod
    def from_config(cls, data: Mapping[str, Any]) -> Augmentation:
        """Of a config's `data`: `max_shift`, `augment_per_frame`, `jitter`; off where left out.

        Raises:
          ValueError: an unknown key in `jitter`, or a number out of its range.
        """
        jitter = dict(data.get("jitter") or {})
        if unknown := sorted(set(jitter) - set(_JITTER_KEYS)):
            raise ValueError(
                f"data.jitter: unknown key {unknown[0]!r}; known are {', '.join(_JITTER_KEYS)}"
            )
        return cls(
            max_shift=data.get("max_shift", (0, 0)),
            per_frame=bool(data.get("augment_per_frame", False)),
            **jitter,
        )

    @property
    def jitters(self) -> bool:
        """Whether colours change at all."""
        neutral = Augmentation()
        return any(getattr(self, name) != getattr(neutral, name) for name in _JITTER_KEYS)


def augment(key: jax.Array, images: jax.Array, augmentation: Augmentation) -> jax.Array:
    """Augments a batch, every sample by a key of its own.

    Args:
      key: PRNG key; sample i takes `jax.random.split(key, batch)[i]`.
      images: uint8 [batch, time, h, w, 3].
      augmentation: static under jit.

    Returns:
      uint8 [batch, time, h, w, 3]; the very input where nothing is asked for.
    """
    if not augmentation.jitters and augmentation.max_shift == (0, 0):
        return images
    return augment_samples(jax.random.split(key, images.shape[0]), images, augmentation)


def augment_samples(keys: jax.Array, images: jax.Array, augmentation: Augmentation) -> jax.Array:
    """As `augment`, with the samples' keys [batch] given."""
    shape = images.shape
    if augmentation.per_frame:  # every frame is a window of its own
        keys = jax.vmap(lambda key: jax.random.split(key, shape[1]))(keys).reshape(-1)
        images = images.reshape(-1, 1, *shape[2:])
    seen = None
    if augmentation.max_shift != (0, 0):

        def shift(key: jax.Array, window: jax.Array) -> jax.Array:
            return random_shift_crop(key, window, augmentation.max_shift)

        # What comes in at the edges stays black. (Colours first and then the crop would do without
        # the mask, but XLA fuses the two on CPU and takes ten times as long.)
        seen = jax.vmap(shift)(keys, jnp.ones((*images.shape[:1], 1, *shape[2:4], 1), bool))
        images = jax.vmap(shift)(keys, images)
    if augmentation.jitters:
        streams = jax.vmap(lambda key: jax.random.fold_in(key, _JITTER_STREAM))(keys)
        jitter = functools.partial(jitter_colours, augmentation=augmentation)
        images = jax.vmap(jitter)(streams, images, seen=seen)
    return images.reshape(shape)


def jitter_colours(
    key: jax.Array, window: jax.Array, augmentation: Augmentation, seen: jax.Array | None = None
) -> jax.Array:
    """Changes the colours of all frames of a window by one random map.

    With g = (red + green + blue) / 3 of a pixel, m the mean of all numbers of the window that are
    seen, and b, c, s, h drawn uniformly from the augmentation's ranges, the new colour is

        c (g + s R(h) (colour - g) - m) + m + 255 b

    where R(h) turns about the grey axis by 360 h degrees. Computed in float32 and, once at the end,
    rounded to the nearest integer (halves to even) and clipped to 0..255.

    Args:
      key: of this window.
      window: uint8 [time, h, w, 3].
      augmentation: the ranges.
      seen: bool [1, h, w, 1], false where a crop has let zeros in: these stay. All by default.

    Returns:
      uint8 [time, h, w, 3].
    """
    low, high = np.asarray(
        [
            (-augmentation.brightness, augmentation.brightness),
            augmentation.contrast,
            augmentation.saturation,
            (-augmentation.hue, augmentation.hue),
        ],
        np.float32,
    ).T
    b, c, s, h = jax.random.uniform(key, (4,), minval=low, maxval=high)
    grey = np.full((3, 3), 1 / 3, np.float32)
    matrix = c * (grey + s * (_turn(h) - grey))  # [3, 3]; a turn leaves grey as it is
    x = window.astype(jnp.float32)
    # The matrix leaves grey grey, times c: the mean's part is an offset.
    mean = x.mean() if seen is None else x.sum() / (3 * len(window) * seen.sum())
    offset = (1 - c) * mean + 255 * b
    # Written out, since products of matrices are rounded to fewer bits on accelerators.
    mixed = sum(x[..., i, None] * matrix[:, i] for i in range(3)) + offset
    colours = jnp.clip(jnp.round(mixed), 0, 255).astype(jnp.uint8)
    return colours if seen is None else jnp.where(seen, colours, 0)


def _turn(turns: jax.Array) -> jax.Array:
    """The rotation about the grey axis, [3, 3]; a third of a turn takes red to green."""
    cos, sin = jnp.cos(2 * jnp.pi * turns), jnp.sin(2 * jnp.pi * turns)
    cross = np.asarray([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / np.sqrt(np.float32(3))
    return cos * np.eye(3, dtype=np.float32) + (1 - cos) / 3 + sin * cross

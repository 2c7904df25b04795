"""Draws docs/augmentation.png: frames of the tabletop before and after each augmentation.

    python scripts/draw_augmentation.py [--output docs/augmentation.png]

On the left three frames of a window at 64x64, on the right one frame at 256x320, the paper's size;
each column of a block draws with a key of its own where windows are meant to differ.
"""

from __future__ import annotations

import argparse
import pathlib

import jax
import numpy as np

from rt1_jax import envs, figures
from rt1_jax.data.augmentation import Augmentation, augment

FRAMES, DRAWS = 3, 3
COLOURS = {"brightness": 0.15, "contrast": (0.6, 1.4), "saturation": (0.3, 1.7), "hue": 0.08}
SHIFTS = {64: (8, 8), 256: (20, 50)}  # the small one is enlarged, to be seen


def rows(height: int) -> list[tuple[str, Augmentation]]:
    """Name and augmentation of each row of the picture."""
    shift = SHIFTS[height]
    return [
        ("original", Augmentation()),
        ("crop", Augmentation(shift)),
        *((name, Augmentation(**{name: amount})) for name, amount in COLOURS.items()),
        ("all", Augmentation(shift, **COLOURS)),
        ("all, frames\napart", Augmentation(shift, per_frame=True, **COLOURS)),
    ]


def film(image_size: tuple[int, int], steps: int) -> np.ndarray:
    """Frames of an episode that the expert drives: uint8 [steps, h, w, 3]."""
    env = envs.make("tabletop", skills=("pick",), image_size=image_size)
    expert = envs.make_expert(env, 0.0)
    try:
        frames = [env.reset(seed=7)[0]["image"]]
        while len(frames) < steps:
            frames.append(env.step(expert.act())[0]["image"])
        return np.stack(frames)
    finally:
        env.close()


@figures.house_style()
def draw(stem: pathlib.Path) -> None:
    """Saves the picture as PNG and SVG."""
    small, large = film((64, 64), 6)[1::2], film((256, 320), 6)[-1]
    count = len(rows(64))
    figure = figures.new_figure(10.5, 1.42 * count)
    grid = figure.subplots(count, FRAMES + DRAWS, width_ratios=[1] * FRAMES + [1.25] * DRAWS)
    for y, ((name, on_small), (_, on_large)) in enumerate(zip(rows(64), rows(256), strict=True)):
        window = augment(jax.random.key(2), small[None], on_small)[0]
        draws = augment(jax.random.key(5), np.repeat(large[None, None], DRAWS, 0), on_large)[:, 0]
        for axes, image in zip(grid[y], [*window, *draws], strict=True):
            axes.imshow(np.asarray(image))
            axes.set(xticks=[], yticks=[])
        grid[y, 0].set_ylabel(name, rotation=0, ha="right", va="center")
    for x in range(FRAMES):
        grid[0, x].set_title(f"64×64, frame {x + 1}")
    for x in range(DRAWS):
        grid[0, FRAMES + x].set_title(f"256×320, window {x + 1}")
    figures.save_figure(figure, stem)


def main() -> None:
    """Draws it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/augmentation"))
    draw(parser.parse_args().output.with_suffix(""))


if __name__ == "__main__":
    main()

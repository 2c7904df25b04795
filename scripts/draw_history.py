"""Draws docs/history.png: which frame stands where in a policy's window, step after step.

    python scripts/draw_history.py [--output docs/history.png]

The places are read off the very function that a policy's step uses, with numbered frames.
"""

from __future__ import annotations

import argparse
import pathlib

import jax.numpy as jnp
import numpy as np
from matplotlib.patches import Rectangle

from rt1_jax import figures
from rt1_jax.policies.steps import PolicyState, place_frame

FRAMES, STEPS = 6, 9


def windows() -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers [steps, frames], 0 where nothing is, and the newest one's place [steps]."""
    state = PolicyState(
        jnp.zeros((1, FRAMES, 1, 1)), jnp.zeros((1, FRAMES, 1), jnp.int32), jnp.zeros(1, jnp.int32)
    )
    rows, places = [], []
    for number in range(1, STEPS + 1):
        state, position = place_frame(state, jnp.full((1, 1, 1), float(number)))
        rows.append(np.asarray(state.tokens[0, :, 0, 0]))
        places.append(int(position[0]))
        state = state.replace(count=state.count + 1)
    return np.stack(rows).astype(int), np.asarray(places)


@figures.house_style()
def draw(stem: pathlib.Path) -> None:
    """Saves the picture as PNG and SVG."""
    rows, places = windows()
    figure = figures.new_figure(7.2, 4.4)
    axes = figure.add_subplot()
    for (step, place), number in np.ndenumerate(rows):
        newest = place == places[step]
        shade = "black" if newest else "0.85" if number else "white"
        edge = "0.6" if number == 0 else shade
        corner = (place - 0.46, step - 0.42)
        axes.add_patch(Rectangle(corner, 0.92, 0.84, facecolor=shade, edgecolor=edge, ls="--"))
        ink = "white" if newest else "black"
        text = f"frame {number}" if number else "empty"
        axes.text(place, step, text, ha="center", va="center", color=ink if number else "0.45")
    axes.set(xlim=(-0.6, FRAMES - 0.4), ylim=(STEPS - 0.4, -0.6))
    axes.set_xticks(range(FRAMES), [f"position {p}" for p in range(FRAMES)])
    axes.set_yticks(range(STEPS), [f"step {s + 1}" for s in range(STEPS)])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figures.save_figure(figure, stem)


def main() -> None:
    """Draws it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/history"))
    draw(parser.parse_args().output.with_suffix(""))


if __name__ == "__main__":
    main()

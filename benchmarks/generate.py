"""Cost of making demonstrations: episodes per second of one core, and where the time goes.

    python benchmarks/generate.py [--episodes=40] [--skills=pick,move_near] [--noise=0.01]

Times are CPU seconds of one process, so that other load on the machine matters little; "physics" is
the same episodes with frames of 8x8, "total" adds rendering and PNG or JPEG encoding. The GL
implementation may use threads of its own; their time is counted, too.
"""

from __future__ import annotations

import argparse
import os
import time

from rt1_jax import envs
from rt1_jax.data.episode import encode_image
from rt1_jax.data.generate import record_episode
from rt1_jax.data.generation_plan import make_plan

TARGETS = {(64, 64): 5.0, (256, 320): 3.0}
"""Episodes a second and core to reach."""


def main() -> None:
    """Prints one line a frame size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--skills", default="pick,move_near")
    parser.add_argument("--noise", type=float, default=0.01)
    given = parser.parse_args()
    skills = tuple(given.skills.split(","))
    print(f"skills {given.skills}, noise {given.noise} m, load {os.getloadavg()[0]:.1f}")
    print("frame      episodes/s/core  CPU-ms/episode  CPU-ms/step  steps/episode  kept  to reach")
    for size in ((8, 8), (64, 64), (128, 128), (256, 320)):
        seconds, steps, kept = _measure(size, skills, given.episodes, given.noise)
        name = "physics" if size == (8, 8) else f"{size[0]}x{size[1]}"
        target = f">= {TARGETS[size]:g}" if size in TARGETS else "-"
        print(
            f"{name:10s} {kept / seconds:15.1f} {1e3 * seconds / given.episodes:15.0f} "
            f"{1e3 * seconds / steps:12.1f} {steps / given.episodes:14.1f} "
            f"{kept:3d}/{given.episodes:<3d} {target:>7s}"
        )


def _measure(
    size: tuple[int, int], skills: tuple[str, ...], episodes: int, noise: float
) -> tuple[float, int, int]:
    """CPU seconds, steps and successes of some episodes, after one to warm up."""
    plan = make_plan(episodes=episodes, skills=skills, image_size=size, noise=noise)
    env = envs.make(plan.env, split=plan.split, skills=skills, image_size=size)
    expert = envs.make_expert(env, noise)
    record_episode(env, expert, 0)
    steps = kept = 0
    start = time.process_time()
    for seed in range(1, episodes + 1):
        episode = record_episode(env, expert, seed)
        steps += env.steps_taken
        if episode is not None:
            kept += 1
            for image in episode.images:
                encode_image(image, plan.image_format)
    seconds = time.process_time() - start
    env.close()
    return seconds, steps, kept


if __name__ == "__main__":
    main()

"""What a policy's tokens look at: TokenLearner's maps and the transformer's attention, drawn.

python -m rt1_jax.analysis.token_maps --checkpoint=tabletop-small --env=tabletop --output=out/maps
python -m rt1_jax.analysis.token_maps --checkpoint=runs/mine --dataset=data/mine --episode=3

Writes report.html, results.json, maps.npz and the figures as PNG and SVG. The first episode is
drawn; the numbers are means over --episodes of them.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tqdm

from rt1_jax.analysis.map_analysis import analyse
from rt1_jax.analysis.scenes import Scene, SceneError, asked_instructions, recorded_scenes

DEFAULT_SEED = 1_000_000_000  # as in evaluation: far from the seeds of training data


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 for what is not there or does not fit."""
    given = _parse(arguments)
    progress = sys.stderr.isatty()
    try:
        asked = asked_instructions(given.instructions)
        if given.episodes < 1:
            raise SceneError(f"--episodes={given.episodes}: expected at least 1")
        if given.env and given.dataset:
            raise SceneError("--env and --dataset: give one of the two")
        if given.seed < 0:
            raise SceneError(f"--seed={given.seed}: expected at least 0")
        import rt1_jax

        policy = rt1_jax.load_policy(given.checkpoint)
        if given.dataset:
            scenes, embed = recorded_scenes(
                policy, given.dataset, first=given.episode, episodes=given.episodes, asked=asked
            )
            settings = {"dataset": given.dataset, "episode": given.episode}
        else:
            scenes, embed, settings = _live(policy, given, asked, progress)
        content = analyse(
            policy,
            given.checkpoint,
            scenes,
            embed,
            given.output,
            step=given.step,
            settings=settings | {"episodes": len(scenes)},
            progress=progress,
        )
    except (ValueError, OSError) as error:
        print(f"token_maps: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("\n".join(content["summary"]))
    print(f"report: {pathlib.Path(given.output) / 'report.html'}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.analysis.token_maps", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--checkpoint", required=True, help="a run, a checkpoint, or the name of a shipped policy"
    )
    parser.add_argument("--env", help="let the policy drive here; `tabletop` without --dataset")
    parser.add_argument("--split", default="seen", help="of the environment")
    parser.add_argument("--skills", help="comma-separated; those of the training data by default")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the first live episode")
    parser.add_argument("--dataset", help="look at recorded episodes instead")
    parser.add_argument("--episode", type=int, default=0, help="the first recorded one, from 0")
    parser.add_argument("--episodes", type=int, default=8, help="that the numbers are means over")
    parser.add_argument(
        "--step", type=int, help="the frame to draw, from 0; else the first whose window is full"
    )
    parser.add_argument("--instructions", help='to compare with the own one: "a;b;c"')
    parser.add_argument("--output", default="out/token_maps", help="directory")
    return parser.parse_args(arguments)


def _live(
    policy: Any, given: argparse.Namespace, asked: Any, progress: bool
) -> tuple[list[Scene], Callable[[str], np.ndarray], dict[str, Any]]:
    from rt1_jax.analysis.live import live_scenes

    environment = given.env or "tabletop"
    trained = (policy.description.source.get("data") or {}).get("skills") or ["all"]
    skills = given.skills.split(",") if given.skills else trained
    with tqdm.tqdm(desc="driving", unit="step", disable=not progress) as bar:
        scenes = live_scenes(
            policy, environment, split=given.split, skills=skills, seed=given.seed,
            episodes=given.episodes, asked=asked, on_step=bar.update,
        )  # fmt: skip
    known: dict[str, np.ndarray] = {}

    def embed(text: str) -> np.ndarray:
        if text not in known:
            known[text] = np.asarray(policy.embed([text]), np.float32)[0]
        return known[text]

    settings = {
        "environment": environment, "split": given.split, "skills": skills, "seed": given.seed
    }  # fmt: skip
    return scenes, embed, settings


if __name__ == "__main__":
    sys.exit(main())

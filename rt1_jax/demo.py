"""The main job from one command: make data, train, evaluate in closed loop, draw the results.

    make demo            or, in an environment that is set up,
    python -m rt1_jax.demo [--output=runs/demo]

Each stage is a command that can be typed by itself; the demo prints it before running it. A demo
that was interrupted continues where it stopped: finished shards and checkpoints are kept.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

# Below this the policy has not learned the task, whatever the loss says.
_LEAST_SUCCESS = 0.5
# A policy that ignores its instruction does as well with a wrong one.
_MOST_MISLED = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo. Returns 0 if the policy solves the task and listens, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", default="runs/demo", help="data, checkpoints and report go here"
    )
    parser.add_argument("--config", default="configs/tabletop.py")
    parser.add_argument("--data-episodes", type=int, default=4000)
    parser.add_argument("--steps", type=int, help="training steps (default: the config's)")
    parser.add_argument("--episodes", type=int, default=100, help="closed-loop evaluation")
    options = parser.parse_args(argv)
    root = pathlib.Path(options.output)
    config = pathlib.Path(options.config)
    if not config.exists():
        print(f"demo: no {config} here: run it from the top of the repository", file=sys.stderr)
        return 1

    started = time.perf_counter()
    python, data, run, report = sys.executable, root / "data", root / "run", root / "evaluation"
    train = [python, "train.py", f"--config={config}", f"--workdir={run}"]
    train += [f"--config.data.directory={data}"]
    if options.steps:
        train += [f"--config.optimizer.steps={options.steps}"]
    stages = {
        "data": [
            *(python, "-m", "rt1_jax.data.generate", "--env=tabletop", "--skills=pick,move_near"),
            *(f"--episodes={options.data_episodes}", "--image_size=64,64", f"--output={data}"),
        ],
        "training": train,
        "evaluation": [
            *(python, "eval.py", f"--checkpoint={run}", "--env=tabletop", "--split=seen"),
            *(f"--episodes={options.episodes}", f"--output={report}"),
        ],
    }
    for name, command in stages.items():
        print(f"\n=== {name}: {shlex.join(command)}", flush=True)
        stage_started = time.perf_counter()
        status = subprocess.run(command, check=False).returncode
        print(f"=== {name} took {(time.perf_counter() - stage_started) / 60:.1f} min", flush=True)
        if status != 0:
            print(f"demo: {name} failed with exit code {status}; run it again to go on from there")
            return 1
    return _judge(report, time.perf_counter() - started)


def _judge(report: pathlib.Path, seconds: float) -> int:
    """Says how it went, from the numbers that the evaluation wrote."""
    results = json.loads((report / "results.json").read_text())
    summary = results["closed_loop"]["summary"]
    success, misled = (
        summary[condition]["seen"]["all"]["success_rate"]
        for condition in ("policy", "wrong_instruction")
    )
    print(f"\ndemo: {seconds / 60:.1f} min in all; open {(report / 'report.html').absolute()}")
    if success < _LEAST_SUCCESS:
        print(f"demo: the policy solved {success:.0%} of the episodes: training failed")
        return 1
    if misled >= success * _MOST_MISLED:
        print(
            f"demo: it solved {misled:.0%} when told a wrong instruction, {success:.0%} when told "
            "the right one: the instruction is not used"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

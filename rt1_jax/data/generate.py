"""Makes a dataset of expert demonstrations in a simulated environment.

    python -m rt1_jax.data.generate --env=tabletop --episodes=1000 --output=data/tabletop \\
        [--skills=pick,move_near --split=seen --image_size=64,64 --noise=0.01 --processes=2]

Episodes are made shard by shard in parallel processes. Which seeds a shard takes is fixed, so the
data do not depend on the number of processes, and an interrupted run continues where it stopped:
finished shards are kept, the others are made again. Only successes are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from rt1_jax.actions import TABLETOP
from rt1_jax.data.episode import Episode, stack_actions
from rt1_jax.files import write_atomically

EPISODES_PER_SHARD = 100
_PNG_LARGEST = 128  # pixels; larger frames become JPEG
_SEED_STRIDE = 1_000_000  # seeds of one shard: room for dropped episodes
_MOST_DROPPED = 0.5
_PLAN_FILE = "generation.json"


class GenerationError(ValueError):
    """A request that cannot be met, or a directory that holds something else."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that the data depend on.

    Attributes:
      env: an environment of `rt1_jax.envs`.
      episodes: successes to keep.
      split, skills, image_size: as the environment takes them.
      noise: standard deviation (m) of the executed motion's noise; the recorded action is clean.
      seed: of the data set.
      image_format: "png" or "jpeg".
    """

    env: str
    episodes: int
    split: str
    skills: tuple[str, ...]
    image_size: tuple[int, int]
    noise: float
    seed: int
    image_format: str

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.episodes // EPISODES_PER_SHARD)

    def shard_episodes(self, shard: int) -> int:
        """Episodes in one shard."""
        return min(EPISODES_PER_SHARD, self.episodes - shard * EPISODES_PER_SHARD)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def generate(
    plan: Plan,
    output: str | os.PathLike[str],
    *,
    processes: int = 1,
    encoder: Any = None,
    progress: bool = True,
) -> dict[str, int]:
    """Makes the dataset, or continues an interrupted making of it.

    Args:
      plan: what to make.
      output: the dataset's directory; must be new, empty, or hold the same plan.
      processes: how many make episodes at once.
      encoder: embeds the instructions; the default encoder if None.
      progress: whether to draw a progress bar.

    Returns:
      {"kept": successes written, "dropped": failures left out, "steps": steps written}.

    Raises:
      GenerationError: the directory holds something else, or the expert fails too often.
    """
    root = pathlib.Path(output)
    _claim(root, plan)
    todo = [shard for shard in range(plan.shards) if not _shard_path(root, plan, shard).exists()]
    done = set(range(plan.shards)) - set(todo)
    for leftover in root.glob("*.partial-*"):
        leftover.unlink()
    jobs = [(plan, str(root), shard) for shard in todo]
    _run(jobs, plan, processes, sum(plan.shard_episodes(shard) for shard in done), progress)
    paths = [_shard_path(root, plan, shard) for shard in range(plan.shards)]
    indices = [json.loads(path.with_suffix(".json").read_text())["episodes"] for path in paths]
    episodes = [episode for index in indices for episode in index]
    dropped = sum(int(episode["metadata"]["dropped_before"]) for episode in episodes)
    counts = {
        "kept": len(episodes),
        "dropped": dropped,
        "steps": sum(int(episode["length"]) for episode in episodes),
    }
    if encoder is None:
        from rt1_jax.language import load_encoder

        encoder = load_encoder()
    from rt1_jax.data.store import finish_dataset
    from rt1_jax.envs.scene import CONTROL_RATE

    finish_dataset(
        root,
        paths,
        action_spec=TABLETOP,
        frame_rate=CONTROL_RATE,
        source={"generator": "rt1_jax.data.generate", **plan.to_json(), **counts},
        encoder=encoder,
    )
    return counts


def record_episode(env: Any, expert: Any, seed: int) -> Episode | None:
    """One demonstration of an episode, or None if the expert fails.

    Frames are those that the expert acted on; actions are its own, before noise.
    """
    observation, info = env.reset(seed=seed)
    text = observation["instruction"]
    images: list[np.ndarray] = []
    actions: list[dict[str, np.ndarray]] = []
    terminated = truncated = False
    while not (terminated or truncated):
        action = expert.act()
        images.append(observation["image"])
        actions.append(action)
        observation, _, terminated, truncated, info = env.step(expert.perturb(action))
    if not terminated:
        return None
    metadata = {"seed": seed, "skill": info["skill"], "task": info["task"], "split": env.split}
    return Episode(np.stack(images), stack_actions(actions), text, metadata)


def _run(
    jobs: list[tuple[Plan, str, int]], plan: Plan, processes: int, already: int, progress: bool
) -> None:
    import tqdm

    bar = tqdm.tqdm(
        total=plan.episodes, initial=already, unit="episode", disable=not progress, smoothing=0.1
    )
    with bar:
        if processes <= 1 or len(jobs) <= 1:
            for job in jobs:
                _make_shard(job, lambda: bar.update())
            return
        context = multiprocessing.get_context("spawn")
        ticks = context.SimpleQueue()
        with context.Pool(
            min(processes, len(jobs)), initializer=_start_worker, initargs=(ticks,)
        ) as pool:
            results = [pool.apply_async(_make_shard_in_worker, (job,)) for job in jobs]
            while not all(result.ready() for result in results):
                _drain(ticks, bar)
                next(r for r in (*results, None) if r is None or not r.ready()).wait(0.2)
                for result in results:
                    if result.ready():
                        result.get()  # raises at once what a worker raised
            _drain(ticks, bar)


def _drain(ticks: Any, bar: Any) -> None:
    while not ticks.empty():
        ticks.get()
        bar.update()


_worker_ticks: Any = None


def _start_worker(ticks: Any) -> None:
    global _worker_ticks
    _worker_ticks = ticks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool


def _make_shard_in_worker(job: tuple[Plan, str, int]) -> None:
    _make_shard(job, lambda: _worker_ticks.put(1))


def _make_shard(job: tuple[Plan, str, int], tick: Any) -> None:
    """Makes one shard; it depends on the plan and its number alone."""
    from rt1_jax import envs
    from rt1_jax.data.store import EpisodeWriter

    plan, root, shard = job
    env = envs.make(plan.env, split=plan.split, skills=plan.skills, image_size=plan.image_size)
    expert = envs.make_expert(env, plan.noise)
    writer = EpisodeWriter(
        _shard_path(pathlib.Path(root), plan, shard), plan.image_format, TABLETOP
    )
    wanted, tried, dropped = plan.shard_episodes(shard), 0, 0
    kept = 0
    try:
        while kept < wanted:
            seed = _episode_seed(plan.seed, shard, tried)
            episode = record_episode(env, expert, seed)
            tried += 1
            if episode is None:
                dropped += 1
                if dropped > max(20, _MOST_DROPPED * tried):
                    raise GenerationError(
                        f"the expert failed in {dropped} of {tried} episodes (noise {plan.noise}, "
                        f"skills {', '.join(plan.skills)}): lower the noise"
                    )
                continue
            episode.metadata["dropped_before"] = dropped
            dropped = 0
            writer.add(episode)
            kept += 1
            tick()
        writer.close()
    except BaseException:
        writer.abort()
        raise
    finally:
        env.close()


def _episode_seed(seed: int, shard: int, attempt: int) -> int:
    """Distinct for every data set seed, shard and attempt, and apart from small seeds."""
    state = np.random.SeedSequence([seed, shard, attempt]).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(2))


def _shard_path(root: pathlib.Path, plan: Plan, shard: int) -> pathlib.Path:
    return root / f"shard-{shard:05d}-of-{plan.shards:05d}.array_record"


def _claim(root: pathlib.Path, plan: Plan) -> None:
    """Marks the directory with the plan, or checks that it carries the same one."""
    marker = root / _PLAN_FILE
    if marker.exists():
        try:
            found = json.loads(marker.read_text())
        except ValueError:
            found = {}
        wanted = plan.to_json()
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        if differing:
            key = differing[0]
            raise GenerationError(
                f"{root} holds data made with {key}={found.get(key)!r}, asked for {wanted[key]!r}: "
                "choose another --output or delete it"
            )
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise GenerationError(
            f"{root} exists and is not an unfinished data set of this command: choose another "
            "--output or delete it"
        )
    write_atomically(marker, json.dumps(plan.to_json(), indent=1))


def make_plan(
    *,
    env: str = "tabletop",
    episodes: int = 1000,
    split: str = "seen",
    skills: Sequence[str] | None = None,
    image_size: tuple[int, int] = (256, 320),
    noise: float = 0.01,
    seed: int = 0,
    image_format: str | None = None,
) -> Plan:
    """A checked plan, with the defaults filled in.

    Raises:
      GenerationError or SplitError: a value that does not exist or makes no sense.
    """
    from rt1_jax import envs
    from rt1_jax.data.episode import IMAGE_FORMATS
    from rt1_jax.envs import splits

    if env not in envs.ENVIRONMENTS:
        raise GenerationError(
            f"unknown environment {env!r}: expected one of {', '.join(envs.ENVIRONMENTS)}"
        )
    if episodes < 1:
        raise GenerationError(f"--episodes={episodes}: expected at least 1")
    if skills is None:
        splits.check(split, ("pick",))
        skills = splits.skills_of(split)
    splits.check(split, tuple(skills))
    height, width = image_size
    if image_format is None:
        image_format = "png" if max(height, width) <= _PNG_LARGEST else "jpeg"
    if image_format not in IMAGE_FORMATS:
        raise GenerationError(
            f"unknown image format {image_format!r}: expected one of {', '.join(IMAGE_FORMATS)}"
        )
    return Plan(
        env, episodes, split, tuple(skills), (height, width), float(noise), seed, image_format
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.data.generate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--env", default="tabletop")
    parser.add_argument("--episodes", type=int, default=1000, help="successes to keep")
    parser.add_argument("--output", required=True, help="directory of the dataset")
    parser.add_argument("--split", default="seen")
    parser.add_argument("--skills", help="comma-separated; all of the split by default")
    parser.add_argument("--image_size", default="256,320", help="height,width in pixels")
    parser.add_argument(
        "--noise", type=float, default=0.01, help="of the executed motion, m (standard deviation)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image_format", choices=("png", "jpeg"))
    parser.add_argument("--encoder", help="sentence encoder; the default one if left out")
    given = parser.parse_args(arguments)
    try:
        sides = tuple(int(side) for side in given.image_size.split(","))
        if len(sides) != 2:
            raise GenerationError(f"--image_size={given.image_size}: expected height,width")
        plan = make_plan(
            env=given.env,
            episodes=given.episodes,
            split=given.split,
            skills=given.skills.split(",") if given.skills else None,
            image_size=(sides[0], sides[1]),
            noise=given.noise,
            seed=given.seed,
            image_format=given.image_format,
        )
        encoder = None
        if given.encoder:
            from rt1_jax.language import load_encoder

            encoder = load_encoder(given.encoder)
        counts = generate(plan, given.output, processes=given.processes, encoder=encoder)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return 130
    total = counts["kept"] + counts["dropped"]
    print(
        f"{given.output}: kept {counts['kept']} successes ({counts['steps']} steps), dropped "
        f"{counts['dropped']} failures of {total} episodes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

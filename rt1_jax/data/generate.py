"""Makes a dataset of expert demonstrations in a simulated environment.

    python -m rt1_jax.data.generate --env=tabletop --episodes=1000 --output=data/tabletop \\
        [--skills=pick,move_near --split=seen --image_size=64,64 --noise=0.01 --processes=2]

Episodes are made shard by shard in parallel processes. Which seeds a shard takes is fixed, so the
data do not depend on the number of processes, and an interrupted run continues where it stopped:
finished shards are kept, the others are made again. Only successes are kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from rt1_jax.actions import TABLETOP
from rt1_jax.data.episode import Episode, stack_actions
from rt1_jax.data.generation_plan import GenerationError, Plan, claim_directory, make_plan
from rt1_jax.data.size_flag import read_size

_MOST_DROPPED = 0.5


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
    claim_directory(root, plan)
    todo = [shard for shard in range(plan.shards) if not _shard_path(root, plan, shard).exists()]
    done = set(range(plan.shards)) - set(todo)
    already = sum(plan.shard_episodes(shard) for shard in done)
    _run(plan, root, todo, processes, already, progress)
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
    from rt1_jax.data.finish import finish_dataset
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


class _Progress:
    """Counts kept episodes across processes and carries the word to stop."""

    def __init__(self, context: Any = multiprocessing) -> None:
        self._kept = context.Value("q", 0)
        self._stop = context.Event()

    @property
    def kept(self) -> int:
        return int(self._kept.value)

    def stop(self) -> None:
        self._stop.set()

    def tick(self) -> None:
        with self._kept.get_lock():
            self._kept.value += 1

    def check(self) -> None:
        """Raises KeyboardInterrupt if the parent process has said so, or is gone."""
        parent = multiprocessing.parent_process()
        if self._stop.is_set() or (parent is not None and not parent.is_alive()):
            raise KeyboardInterrupt


_worker_progress: _Progress


def _run(
    plan: Plan, root: pathlib.Path, shards: list[int], processes: int, already: int, show: bool
) -> None:
    import tqdm

    workers = max(1, min(processes, len(shards)))
    bar = tqdm.tqdm(total=plan.episodes, initial=already, unit="episode", disable=not show)
    with bar:
        if workers == 1:
            progress = _Progress()
            for shard in shards:
                _make_shard(plan, root, shard, progress, lambda: _show(bar, already, progress))
            return
        # Fresh interpreters: a GL context does not survive a fork.
        context = multiprocessing.get_context("spawn")
        progress = _Progress(context)
        pool = futures.ProcessPoolExecutor(workers, context, _start_worker, (progress,))
        try:
            waiting = {pool.submit(_make_shard_in_worker, plan, root, shard) for shard in shards}
            while waiting:
                done, waiting = futures.wait(waiting, 0.2, futures.FIRST_COMPLETED)
                _show(bar, already, progress)
                for future in done:
                    future.result()  # raises at once what a worker raised
        finally:
            progress.stop()
            pool.shutdown(wait=True, cancel_futures=True)


def _show(bar: Any, already: int, progress: _Progress) -> None:
    bar.update(already + progress.kept - bar.n)


def _start_worker(progress: _Progress) -> None:
    global _worker_progress
    _worker_progress = progress
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _make_shard_in_worker(plan: Plan, root: pathlib.Path, shard: int) -> None:
    _make_shard(plan, root, shard, _worker_progress, lambda: None)


def _make_shard(
    plan: Plan, root: pathlib.Path, shard: int, progress: _Progress, show: Callable[[], None]
) -> None:
    """Makes one shard; its content depends on the plan and its number alone."""
    from rt1_jax import envs
    from rt1_jax.data.shards import EpisodeWriter

    env = envs.make(plan.env, split=plan.split, skills=plan.skills, image_size=plan.image_size)
    expert = envs.make_expert(env, plan.noise)
    writer = EpisodeWriter(_shard_path(root, plan, shard), plan.image_format, TABLETOP)
    tried = kept = dropped = failures = 0
    try:
        while kept < plan.shard_episodes(shard):
            progress.check()
            episode = record_episode(env, expert, _episode_seed(plan.seed, shard, tried))
            tried += 1
            if episode is None:
                dropped += 1
                failures += 1
                if failures > max(20, _MOST_DROPPED * tried):
                    raise GenerationError(
                        f"the expert failed in {failures} of {tried} episodes (noise "
                        f"{plan.noise}, skills {', '.join(plan.skills)}): lower the noise"
                    )
                continue
            episode.metadata["dropped_before"] = dropped
            dropped = 0
            writer.add(episode)
            kept += 1
            progress.tick()
            show()
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
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if given.processes < 1:
            raise GenerationError(f"--processes={given.processes}: expected at least 1")
        plan = make_plan(
            env=given.env,
            episodes=given.episodes,
            split=given.split,
            skills=given.skills.split(",") if given.skills else None,
            image_size=read_size(given.image_size),
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
    except KeyboardInterrupt:  # SIGTERM, too
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    total = counts["kept"] + counts["dropped"]
    print(
        f"{given.output}: kept {counts['kept']} successes ({counts['steps']} steps), dropped "
        f"{counts['dropped']} failures of {total} episodes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes a dataset of a LeRobot dataset (v3.0).

    python -m rt1_jax.data.import_lerobot --source=DIR --camera=observation.images.front \\
        [--actions=actions.json] --output=data/mine [--image_size=256,320 --processes=2]

How the entries of `action` become actions: `rt1_jax.data.lerobot.action_mapping`. Episodes are read
shard by shard in parallel processes; an interrupted import continues where it stopped: finished
shards are kept, the others are made again. Episodes that cannot be used are left out, counted and
named.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

from rt1_jax.data.lerobot.action_mapping import ActionMapping
from rt1_jax.data.lerobot.episodes import LEFT_OUT, read_episode, summarise
from rt1_jax.data.lerobot.import_plan import ImportPlan, claim_directory, make_plan
from rt1_jax.data.lerobot.layout import LeRobotError
from rt1_jax.data.lerobot.source import LeRobotSource
from rt1_jax.data.shard_jobs import is_finished
from rt1_jax.data.shards import EpisodeWriter, read_shard_index
from rt1_jax.data.size_flag import read_size

MOST_ODD = 0.05
_CLIPPED_WORTH_SAYING = 0.01


def import_lerobot(
    plan: ImportPlan,
    output: str | os.PathLike[str],
    *,
    processes: int = 1,
    encoder: Any = None,
    max_odd: float = MOST_ODD,
    progress: bool = True,
) -> dict[str, Any]:
    """Makes the dataset, or continues an interrupted import.

    Args:
      plan: what to read and how.
      output: the dataset's directory; must be new, empty, or hold the same import.
      processes: how many read at once.
      encoder: embeds the instructions; the default encoder if None.
      max_odd: the largest share of episodes that may be left out.
      progress: whether to draw a progress bar.

    Returns:
      {"episodes", "steps": kept; "left_out": episodes left out; "odd": see `summarise`;
      "zero_fields": fields that nothing maps}.

    Raises:
      LeRobotError: the source or the mapping does not fit, too many episodes are odd, or the
        directory holds something else.
    """
    source, mapping = plan.open()
    root = pathlib.Path(output)
    claim_directory(root, plan)
    paths = [plan.path(root, shard) for shard in range(plan.shards)]
    todo = [shard for shard, path in enumerate(paths) if not is_finished(path)]
    _run(_Work(plan, root, max_odd), todo, processes, progress)
    indices = [read_shard_index(path) for path in paths]
    odd = [each for index in indices for each in index["odd"]]
    left_out = _check_odd(plan, odd, max_odd)
    summary = summarise(odd)
    episodes = [episode for index in indices for episode in index["episodes"]]
    if not episodes:
        raise LeRobotError(f"no episode can be used: {_in_words(summary)}")
    counts = {
        "episodes": len(episodes),
        "steps": sum(int(episode["length"]) for episode in episodes),
        "left_out": left_out,
        "odd": summary,
        "zero_fields": list(mapping.zero),
    }
    if encoder is None:
        from rt1_jax.language import load_encoder

        encoder = load_encoder()
    from rt1_jax.data.finish import finish_dataset

    finish_dataset(
        root,
        paths,
        action_spec=mapping.spec,
        frame_rate=source.frame_rate,
        source={
            "importer": "rt1_jax.data.import_lerobot",
            "directory": source.root.name,
            "robot": source.info.get("robot_type"),
            "camera": plan.camera,
            "actions": mapping.recipe,
            **counts,
        },
        encoder=encoder,
    )
    return counts


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is the same for all shards."""

    plan: ImportPlan
    root: pathlib.Path
    max_odd: float


def _check_odd(plan: ImportPlan, odd: list[dict[str, Any]], max_odd: float) -> int:
    """How many episodes are left out; LeRobotError where they are too many."""
    left_out = sum(each["reason"] in LEFT_OUT for each in odd)
    if left_out > max_odd * plan.episodes:
        raise LeRobotError(
            f"{left_out} of {plan.episodes} episodes cannot be used, more than --max_odd="
            f"{max_odd:g} allows: {_in_words(summarise(odd))}. With a larger --max_odd the same "
            "command goes on with the others"
        )
    return left_out


def _in_words(summary: dict[str, dict[str, Any]]) -> str:
    parts = []
    for reason, entry in summary.items():
        numbers = ", ".join(map(str, entry["episodes"]))
        more = ", ..." if entry["count"] > len(entry["episodes"]) else ""
        parts.append(f"{reason}: {entry['count']} (episodes {numbers}{more}; {entry['example']})")
    return "; ".join(parts)


_Opened = tuple[LeRobotSource, ActionMapping]
_worker_done: Any  # a shared counter of episodes, in worker processes
_worker_opened: _Opened


def _run(work: _Work, shards: list[int], processes: int, show: bool) -> None:
    import tqdm

    plan = work.plan
    already = plan.episodes - sum(len(plan.rows(shard)) for shard in shards)
    workers = max(1, min(processes, len(shards)))
    bar = tqdm.tqdm(total=plan.episodes, initial=already, unit="episode", disable=not show)
    with bar:
        if workers == 1:
            opened = plan.open()
            for shard in shards:
                _import_shard(work, opened, shard, lambda: bar.update(1))
            return
        # Fresh interpreters: FFmpeg and Arrow have threads, which a fork does not copy.
        context = multiprocessing.get_context("spawn")
        done = context.Value("q", 0)
        pool = futures.ProcessPoolExecutor(workers, context, _start_worker, (done, plan))
        try:
            waiting = {pool.submit(_import_in_worker, work, shard) for shard in shards}
            while waiting:
                finished, waiting = futures.wait(waiting, 0.2, futures.FIRST_COMPLETED)
                bar.update(already + int(done.value) - bar.n)
                for future in finished:
                    future.result()  # raises at once what a worker raised
        finally:
            with done.get_lock():
                done.value = -plan.episodes - 1  # the word to stop
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(done: Any, plan: ImportPlan) -> None:
    global _worker_done, _worker_opened
    _worker_done, _worker_opened = done, plan.open()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _import_in_worker(work: _Work, shard: int) -> None:
    parent = multiprocessing.parent_process()

    def tick() -> None:
        with _worker_done.get_lock():
            if _worker_done.value < 0 or (parent is not None and not parent.is_alive()):
                raise KeyboardInterrupt
            _worker_done.value += 1

    _import_shard(work, _worker_opened, shard, tick)


def _import_shard(work: _Work, opened: _Opened, shard: int, tick: Callable[[], Any]) -> None:
    """Makes one shard; its content depends on the plan and its number alone."""
    plan, (source, mapping) = work.plan, opened
    writer = EpisodeWriter(plan.path(work.root, shard), plan.image_format, mapping.spec)
    odd: list[dict[str, Any]] = []
    try:
        for row in plan.rows(shard):
            episode, found = read_episode(source, row, plan.camera, mapping, plan.frames)
            odd += [each.to_json() for each in found]
            if found:  # not at the end of hours alone
                _check_odd(plan, odd, work.max_odd)
            if episode is not None:
                writer.add(episode)
            tick()
        writer.notes["odd"] = odd
        writer.close()
    except BaseException:
        writer.abort()
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.data.import_lerobot", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--source", required=True, help="directory of the LeRobot dataset")
    parser.add_argument("--camera", required=True, help="key of the frames")
    parser.add_argument(
        "--actions",
        default="",
        help="what maps `action`: a .json or .py file, 'own' or 'names'; one of these if left out",
    )
    parser.add_argument("--output", required=True, help="directory of the dataset")
    parser.add_argument("--image_size", help="height,width in pixels; the data's own if left out")
    parser.add_argument("--encoder", help="sentence encoder; the default one if left out")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--max_odd", type=float, default=MOST_ODD, help="share of episodes that may be left out"
    )
    given = parser.parse_args(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if given.processes < 1:
            raise LeRobotError(f"--processes={given.processes}: expected at least 1")
        size = None if given.image_size is None else read_size(given.image_size)
        plan = make_plan(given.source, camera=given.camera, actions=given.actions, image_size=size)
        encoder = None
        if given.encoder:
            from rt1_jax.language import load_encoder

            encoder = load_encoder(given.encoder)
        counts = import_lerobot(
            plan,
            given.output,
            processes=given.processes,
            encoder=encoder,
            max_odd=given.max_odd,
        )
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # SIGTERM, too
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    _print_summary(given.output, counts)
    return 0


def _print_summary(output: str, counts: dict[str, Any]) -> None:
    from rt1_jax.data.store import StepStore

    print(
        f"{output}: {counts['episodes']} episodes ({counts['steps']} steps), left out "
        f"{counts['left_out']}"
    )
    for reason, entry in counts["odd"].items():
        print(f"  {_in_words({reason: entry})}")
    if counts["zero_fields"]:
        print(f"  nothing maps {', '.join(counts['zero_fields'])}: they are zero")
    statistics = StepStore.open(output).description["action_statistics"]
    for name, rows in statistics.items():
        if max(rows.get("clipped", [0.0])) > _CLIPPED_WORTH_SAYING:
            shares = ", ".join(f"{share:.1%}" for share in rows["clipped"])
            print(
                f"  beyond the bounds of {name!r}: {shares} of the steps; training clips them. "
                f"The data lie within {rows['min']} and {rows['max']}"
            )


if __name__ == "__main__":
    sys.exit(main())

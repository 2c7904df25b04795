"""Many training runs, each evaluated in closed loop; what is finished is not done again.

    DIRECTORY/RUN/config.json, checkpoints, metrics.jsonl   as train.py leaves them
    DIRECTORY/RUN/training.json                             what training gave
    DIRECTORY/RUN/evaluation-KEY/results.json               as eval.py leaves it
    DIRECTORY/RUN/log.txt                                   what the run printed last

RUN is the config's name, seed and a hash of all of it, so that analyses share their runs; KEY is a
hash of what was evaluated. Runs go side by side in processes of their own, each on cores of its
own: small models use one core better than many. Several sweeps may share a directory: a run is
locked while it is made, and who comes second finds it finished.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import tqdm
from ml_collections import ConfigDict

from rt1_jax.files import write_atomically
from rt1_jax.training.config_keys import without_newer
from rt1_jax.training.workdir import FREE_KEYS

_GRACE = 60.0  # seconds that an interrupted run has to finish its step and save


@dataclasses.dataclass(frozen=True)
class Run:
    """One policy to train and evaluate.

    Attributes:
      config: as for `train.py`; the seed is in it.
      splits, skills: what it is evaluated on, in the tabletop.
      episodes: evaluation episodes a split.
      controls: of "wrong_instruction" and "expert".
    """

    config: ConfigDict
    splits: tuple[str, ...] = ("seen",)
    skills: tuple[str, ...] = ("all",)
    episodes: int = 100
    controls: tuple[str, ...] = ("wrong_instruction",)

    @property
    def name(self) -> str:
        """The directory's name: what it is called, its seed, and a hash of its config."""
        config = without_newer(self.config.to_dict())
        kept = {k: v for k, v in config.items() if k not in FREE_KEYS}
        return f"{self.config.name}-s{self.config.seed}-{_digest(kept)}"

    @property
    def evaluation(self) -> str:
        """The name of its evaluation's directory."""
        asked = [self.splits, self.skills, self.episodes, self.controls]
        return f"evaluation-{_digest(asked)}"


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a run gave.

    Attributes:
      run: which one.
      training: {"steps", "seconds", "loss", "validation_loss", "parameters", ...}.
      results: the content of `results.json`.
      step_ms: milliseconds that the policy takes for a step, batch 1 (median).
    """

    run: Run
    training: dict[str, Any]
    results: dict[str, Any]
    step_ms: float

    def summary(self, split: str, condition: str = "policy", skill: str = "all") -> dict[str, Any]:
        """Success numbers of `rt1_jax.evaluation.metrics.summarize`."""
        return self.results["closed_loop"]["summary"][condition][split][skill]


@dataclasses.dataclass(frozen=True)
class Missing:
    """A run that did not come to its end.

    Attributes:
      run: which one.
      reason: the last line that it printed.
    """

    run: Run
    reason: str


def run_sweep(
    runs: Sequence[Run],
    directory: str | os.PathLike[str],
    *,
    parallel: int = 1,
    progress: bool = True,
) -> list[Finished | Missing]:
    """Trains and evaluates what is not finished yet; gives all runs in the order asked for.

    A run that fails does not stop the others: it is reported as missing, with its log's last line.

    Args:
      runs: may repeat; each is done once.
      directory: where runs are kept; a run that was interrupted goes on from its last checkpoint.
      parallel: runs side by side, each on its share of the cores.
      progress: draw a progress bar.
    """
    root = pathlib.Path(directory)
    waiting = {(run.name, run.evaluation): run for run in runs if read(run, root) is None}
    # Evaluations of one policy wait for each other: they share its directory.
    by_name: dict[str, list[Run]] = {}
    for run in waiting.values():
        by_name.setdefault(run.name, []).append(run)
    free = _shares(parallel)
    reasons: dict[tuple[str, str], str] = {}
    children = _Children()
    with (
        concurrent.futures.ThreadPoolExecutor(parallel) as pool,
        tqdm.tqdm(total=len(waiting), unit="run", disable=not (progress and waiting)) as bar,
    ):

        def work_through(group: list[Run]) -> None:
            for run in group:
                cores = free.pop()
                try:
                    _execute(run, root, cores, children)
                finally:
                    free.append(cores)
                if read(run, root) is None:
                    reasons[run.name, run.evaluation] = _last_line(root / run.name)
                bar.update()
                bar.set_postfix_str(run.name, refresh=False)

        try:
            list(pool.map(work_through, by_name.values()))
        except BaseException:  # Ctrl-C, too: nothing goes on behind the user's back
            children.end()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [
        read(run, root)
        or Missing(run, reasons.get((run.name, run.evaluation), "its results cannot be read"))
        for run in runs
    ]


def read(run: Run, directory: str | os.PathLike[str]) -> Finished | None:
    """A run's numbers, or None while it is not finished."""
    root = pathlib.Path(directory) / run.name
    training = _read_training(root)
    try:
        results = json.loads((root / run.evaluation / "results.json").read_text())
        results["closed_loop"]["summary"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if training is None:
        return None
    return Finished(run, training["summary"], results, training["step_ms"])


def complete(run: Run, directory: str | os.PathLike[str]) -> bool:
    """Trains (or goes on with) one run and evaluates it, in this process.

    Returns:
      whether it came to its end; if not, training was told to go, and has saved.
    """
    from rt1_jax.analysis.timing import step_milliseconds
    from rt1_jax.evaluation.run import ClosedLoop, evaluate, training_rows
    from rt1_jax.policies.load import load_policy
    from rt1_jax.training.loop import train

    root = pathlib.Path(directory) / run.name
    if _read_training(root) is None:
        summary = train(run.config, root, progress=False)
        if summary["preempted"]:
            return False
        # Of weights that were taken for finished ones, if there are any.
        for results in root.glob("evaluation-*/results.json"):
            results.unlink()
        policy = load_policy(root)
        content = {"summary": summary, "step_ms": step_milliseconds(policy)}
        write_atomically(root / "training.json", json.dumps(content, indent=1))
    else:
        policy = load_policy(root)
    evaluate(
        policy,
        run.name,
        root / run.evaluation,
        closed_loop=ClosedLoop(
            splits=run.splits,
            skills=run.skills,
            episodes=run.episodes,
            controls=run.controls,
            processes=1,
        ),
        training=training_rows(str(root)),
        progress=False,
    )
    return True


class _Children:
    """The processes of a sweep, so that they end with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def run(self, command: list[str], **options: Any) -> int:
        """As `subprocess.run`; gives the exit status. Starts nothing after `end`."""
        with self._lock:
            if self._ended:
                return -signal.SIGTERM
            child = subprocess.Popen(command, **options)
            self._running.add(child)
        try:
            return child.wait()
        finally:
            self._running.discard(child)

    def end(self) -> None:
        """Ends all that run. Training saves if there is time; no checkpoint is half written."""
        with self._lock:
            self._ended = True
            running = tuple(self._running)
        for child in running:
            child.terminate()
        deadline = time.monotonic() + _GRACE
        try:
            for child in running:
                child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:  # at a second Ctrl-C, too
            for child in running:
                child.kill()


def _execute(run: Run, root: pathlib.Path, cores: list[int], children: _Children) -> None:
    """Completes a run in a process of its own on the given cores; its output goes to a log."""
    home = root / run.name
    home.mkdir(parents=True, exist_ok=True)
    environment = {"JAX_COMPILATION_CACHE_DIR": str(root.resolve() / "compiled"), **os.environ}
    with (home / "lock").open("w") as lock:
        # The child holds it, too: it may outlive this process.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if read(run, root) is not None:
            return
        request = {
            "config": run.config.to_dict(),
            "splits": run.splits,
            "skills": run.skills,
            "episodes": run.episodes,
            "controls": run.controls,
            "cores": cores,
        }
        write_atomically(home / "request.json", json.dumps(request))
        with (home / "log.txt").open("wb") as log:
            status = children.run(
                [sys.executable, "-m", "rt1_jax.analysis.sweep", str(root), run.name],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=(lock.fileno(),),
            )
            if status < 0:
                log.seek(0, os.SEEK_END)
                log.write(f"\nended by signal {-status}\n".encode())


def _shares(parallel: int) -> list[list[int]]:
    """The cores that each of the runs side by side may use; empty lists where that is unknown."""
    if parallel < 1:
        raise ValueError(f"{parallel} runs side by side: at least one is needed")
    if not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(parallel)]
    cores = sorted(os.sched_getaffinity(0))
    if parallel > len(cores):
        raise ValueError(f"{parallel} runs side by side need as many cores, there are {len(cores)}")
    return [cores[i::parallel] for i in range(parallel)]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _read_training(home: pathlib.Path) -> dict[str, Any] | None:
    """The content of `training.json`; None if it is not there, damaged, or of half a training."""
    try:
        content = json.loads((home / "training.json").read_text())
        if content["summary"].get("preempted"):  # earlier versions took it for finished
            return None
        return {"summary": content["summary"], "step_ms": content["step_ms"]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _last_line(home: pathlib.Path) -> str:
    try:
        lines = (home / "log.txt").read_text(errors="replace").strip().splitlines()
    except OSError:
        return "it was never started"
    return lines[-1] if lines else "it printed nothing"


def _main(root: str, name: str) -> None:
    request = json.loads((pathlib.Path(root) / name / "request.json").read_text())
    if request["cores"]:
        os.sched_setaffinity(0, request["cores"])
    run = Run(
        ConfigDict(request["config"]),
        tuple(request["splits"]),
        tuple(request["skills"]),
        request["episodes"],
        tuple(request["controls"]),
    )
    if run.name != name:
        raise ValueError(f"{root}/{name}/request.json is of {run.name}")
    if not complete(run, root):
        from rt1_jax.training.preemption import RESTART_CODE

        print(f"told to go: saved in {root}/{name}; the next sweep goes on with it")
        sys.exit(RESTART_CODE)


if __name__ == "__main__":
    _main(*sys.argv[1:])

"""The parent's side of the environment processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

from rt1_jax.evaluation.environment import EnvironmentFactory
from rt1_jax.evaluation.episodes import EpisodeRequest, EpisodeResult
from rt1_jax.evaluation.worker import Answer, Command, Failure, Frame, RunExpert, serve


class RolloutError(RuntimeError):
    """An environment process failed; the message says in which episode, and notes how."""


class EnvironmentPool:
    """Environment slots spread over spawned processes; slot s lives in process s mod processes.

    Args:
      factory: builds the environments, inside the processes.
      processes: how many. Results do not depend on it.
      timeout: seconds that a process may take to answer before it counts as hung.

    Use it as a context manager: leaving it ends the processes.
    """

    def __init__(self, factory: EnvironmentFactory, processes: int, timeout: float = 600.0) -> None:
        # Spawned, not forked: JAX's threads and a GL context do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._timeout = timeout
        self._connections: list[multiprocessing.connection.Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        for number in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(theirs, factory), name=f"environment-{number}", daemon=True
            )
            process.start()
            theirs.close()  # so that a dead process reads as the end of its pipe
            self._connections.append(ours)
            self._processes.append(process)

    def __enter__(self) -> EnvironmentPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(gracefully=kind is None)

    def exchange(self, commands: Mapping[int, Command]) -> dict[int, Frame]:
        """Sends each slot a `Start` or `Step` and waits for all answers.

        Raises:
          RolloutError: an environment raised, or a process died or hung.
        """
        of_process: dict[int, list[tuple[int, Command]]] = {}
        for slot, command in commands.items():
            of_process.setdefault(slot % len(self._processes), []).append((slot, command))
        for number, batch in of_process.items():
            self._send(number, batch)
        frames: dict[int, Frame] = {}
        for number in of_process:
            for slot, answer in self._receive(number):
                if not isinstance(answer, Frame):
                    raise RolloutError(f"environment process {number} gave {type(answer)}")
                frames[slot] = answer
        return frames

    def run_experts(self, requests: Sequence[EpisodeRequest]) -> Iterator[EpisodeResult]:
        """Runs expert episodes, one at a time in each process; yields them as they end.

        Raises:
          RolloutError: as `exchange`.
        """
        waiting = list(reversed(requests))
        busy: set[int] = set()
        for number in range(len(self._processes)):
            if waiting:
                self._send(number, [(number, RunExpert(waiting.pop()))])
                busy.add(number)
        while busy:
            ready = multiprocessing.connection.wait(
                [self._connections[n] for n in busy], self._timeout
            )
            if not ready:
                raise RolloutError(f"no expert episode ended in {self._timeout:.0f} s")
            for number in [n for n in busy if self._connections[n] in ready]:
                ((_, answer),) = self._receive(number)
                busy.discard(number)
                if waiting:
                    self._send(number, [(number, RunExpert(waiting.pop()))])
                    busy.add(number)
                if not isinstance(answer, EpisodeResult):
                    raise RolloutError(f"environment process {number} gave {type(answer)}")
                yield answer

    def close(self, gracefully: bool = True) -> None:
        """Ends the processes; those that do not end by themselves are killed."""
        for connection in self._connections:
            if gracefully:
                with contextlib.suppress(OSError):
                    connection.send(None)
            connection.close()
        for process in self._processes:
            process.join(10 if gracefully else 0.5)
            if process.is_alive():
                process.kill()
                process.join()

    def _send(self, number: int, batch: list[tuple[int, Command]]) -> None:
        try:
            self._connections[number].send(batch)
        except OSError as error:
            raise self._died(number) from error

    def _receive(self, number: int) -> list[tuple[int, Answer]]:
        connection = self._connections[number]
        try:
            if not connection.poll(self._timeout):
                raise RolloutError(
                    f"environment process {number} has not answered for {self._timeout:.0f} s"
                )
            answers: list[tuple[int, Answer]] = connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._died(number) from error
        for _, answer in answers:
            if isinstance(answer, Failure):
                failure = RolloutError(f"episode failed ({answer.where}): {answer.message}")
                failure.add_note(answer.traceback)
                raise failure
        return answers

    def _died(self, number: int) -> RolloutError:
        process = self._processes[number]
        process.join(10)
        return RolloutError(
            f"environment process {number} ended unexpectedly with exit code {process.exitcode}"
        )

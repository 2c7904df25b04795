"""Where a run's numbers go: `metrics.jsonl`, one object a line, and TensorBoard."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from rt1_jax.files import write_atomically


class MetricsWriter:
    """Appends to `WORKDIR/metrics.jsonl` and writes TensorBoard events beside it.

    A resumed run drops the lines after the step that it resumes from, so that each step stands
    there once. A disk that is full costs rows, not the run: it is told once.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._path = workdir / "metrics.jsonl"
        kept = [row for row in read_metrics(workdir) if row["step"] <= first_step]
        write_atomically(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self._path.open("a")
        self._failed = False
        self._board = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=first_step + 1 if first_step else None
        )

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Records metrics of a split ("train", "validation", ...) at a step."""
        row = {"step": step, "split": split, **{k: float(v) for k, v in metrics.items()}}
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
            for name, value in metrics.items():
                self._board.add_scalar(f"{split}/{name}", float(value), step)
        except OSError as error:
            self._tell(error)

    def close(self) -> None:
        for part in (self._file, self._board):
            try:
                part.close()
            except OSError as error:
                self._tell(error)

    def _tell(self, error: OSError) -> None:
        if not self._failed:
            print(
                f"\n{self._path} could not be written: {error}; training goes on without it",
                file=sys.stderr,
                flush=True,
            )
        self._failed = True


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.jsonl`; a line cut off by a crash ends the list."""
    path = workdir / "metrics.jsonl"
    rows: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows

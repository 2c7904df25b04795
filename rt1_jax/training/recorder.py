"""What a run leaves behind in its directory: metrics and checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from rt1_jax.checkpoints import native
from rt1_jax.checkpoints.saver import CheckpointSaver, detached
from rt1_jax.data.training_data import TrainingData
from rt1_jax.training import hosts
from rt1_jax.training.config_keys import with_newer
from rt1_jax.training.metrics import MetricsWriter
from rt1_jax.training.program import Program
from rt1_jax.training.state import TrainState
from rt1_jax.training.validation import mean_metrics
from rt1_jax.training.workdir import checkpoint_path, drop_old_checkpoints

_SAVES_TO_FAIL = 3  # in a row, and the run stops


class Recorder:
    """Writes metrics and checkpoints; every process has one, and process 0 writes.

    Args:
      config: the run's.
      root: its directory.
      description: of its policy; checkpoints differ in step and validation loss.
      data, program: what it trains on, and executes.
      first_step: that it begins after.
    """

    def __init__(
        self,
        config: Any,
        root: pathlib.Path,
        description: native.PolicyDescription,
        data: TrainingData,
        program: Program,
        first_step: int,
    ) -> None:
        self._config, self._root, self._description = config, root, description
        self._data, self._program = data, program
        self._writer = MetricsWriter(root, first_step) if hosts.is_first() else None
        self._keep_best = with_newer(config.to_dict())["keep_best"]
        self._saver = CheckpointSaver(self._forget)
        self._failures = 0
        self._validated: set[str] = set()  # splits whose step is compiled

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        if self._writer is not None:
            self._writer.write(step, split, metrics)

    def validate(self, step: int, variables: Any, doing: Callable[[str], None]) -> float:
        """The mean loss over the held-out windows of each dataset; NaN without any.

        Args:
          step, variables: of the run.
          doing: told what is waited for, see `Watchdog.doing`.
        """
        losses = []
        for name, windows in self._data.validation.items():
            split = "validation" if len(self._data.validation) == 1 else f"validation/{name}"
            meet_as = None if split in self._validated else split
            metrics = mean_metrics(self._program, variables, windows, self._config, meet_as, doing)
            self._validated.add(split)
            self.write(step, split, metrics)
            losses.append(metrics["loss"])
        return float(np.mean(losses)) if losses else float("nan")

    def save(
        self, step: int, state: TrainState, position: dict[str, Any], validation_loss: float
    ) -> None:
        """Begins to save, unless this step is saved already."""
        self._settle()
        path = checkpoint_path(self._root, step)
        if path.exists():
            return
        description = dataclasses.replace(
            self._description,
            step=step,
            source={**self._description.source, "validation_loss": _number(validation_loss)},
        )
        positions = hosts.gather_json(position)
        if "state" in position and len(positions) > 1:
            position = {"order": position["order"], "states": [p["state"] for p in positions]}
        state = detached(state)
        self._saver.save(path, description, state.average, state, position)

    def finish(self) -> None:
        """Waits for the last checkpoint.

        Raises:
          CheckpointError: it could not be written.
        """
        self._saver.wait()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        with contextlib.suppress(native.CheckpointError):
            self._saver.wait()

    def _settle(self) -> None:
        """A checkpoint that could not be written does not stop a run; several in a row do."""
        try:
            self._saver.wait()
            self._failures = 0
        except native.CheckpointError as error:
            self._failures += 1
            if self._failures == _SAVES_TO_FAIL:
                raise
            steps = native.list_checkpoints(self._root)
            print(
                f"\n{error}; training goes on, the newest whole checkpoint is "
                f"{steps[-1] if steps else 'none'}",
                file=sys.stderr,
                flush=True,
            )

    def _forget(self, newest: pathlib.Path) -> None:
        drop_old_checkpoints(self._root, self._config.keep_checkpoints, self._keep_best)


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None

"""What ends a run that cannot go on, and says why."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from rt1_jax.actions import ActionSpec
from rt1_jax.checkpoints import native
from rt1_jax.training.state import TrainState


class NonFiniteLossError(RuntimeError):
    """The loss or a gradient was not finite; the last good checkpoint stands."""


class StepFailedError(RuntimeError):
    """A step that several processes share has failed on this one."""


class DeviceMemoryError(RuntimeError):
    """A step does not fit the devices' memory; starting again would not help."""


def check_actions(model: Any, spec: ActionSpec) -> None:
    """Tokens beyond a model's bins would be read as not a number.

    Args:
      model: the config's `model`.
      spec: of the data.

    Raises:
      ValueError: the model has other bins or action tokens.
    """
    for name, given in (("bins", spec.bins), ("action_tokens", spec.action_tokens)):
        expected = model.get(name, given)
        if expected != given:
            raise ValueError(
                f"model.{name} is {expected}, but the data's action spec {spec.name} has {given}: "
                f"set --config.model.{name}={given}"
            )


def check_finite(
    step: int, metrics: dict[str, float], state: TrainState, root: Any, most: int
) -> None:
    """Lets pass what is finite, and some updates that were left out.

    Args:
      step: the newest.
      metrics: of it, by name.
      state: counts the updates that were left out for a gradient that was not finite.
      root: the run's directory.
      most: so many may be left out.

    Raises:
      NonFiniteLossError: more were left out, or a metric is not finite though none was.
    """
    skipped = int(jax.device_get(state.skipped))
    bad = [name for name, value in metrics.items() if not np.isfinite(value)]
    if skipped > most or (bad and not skipped):
        steps = native.list_checkpoints(root)
        kept = f"checkpoint {steps[-1]} stands" if steps else "there was no checkpoint yet"
        raise NonFiniteLossError(
            f"not finite by step {step}: {', '.join(bad) or 'a gradient'} ({skipped} updates were "
            f"not applied, guards.max_skipped is {most}); {kept}. Lower optimizer.learning_rate or "
            "optimizer.clip_norm, or look at the data, then start again with the same --workdir"
        )


def step_failed(
    step: int, error: Exception, root: Any, *, batch: int, parts: int
) -> StepFailedError | DeviceMemoryError | None:
    """What to tell when a step has failed on this process; None if its own error says it all.

    Args:
      step: that failed.
      error: JAX's.
      root: the run's directory.
      batch: windows a step.
      parts: that a batch is divided into: devices times `step.accumulate`.
    """
    if "RESOURCE_EXHAUSTED" in str(error):
        return DeviceMemoryError(
            f"step {step} does not fit the memory of {jax.local_devices()[0].device_kind}: "
            f"{next(iter(str(error).splitlines()))}. A device holds {-(-batch // parts)} of "
            f"batch_size={batch} windows at a time; set --config.step.accumulate to take them in "
            "more parts, or a smaller --config.batch_size (python -m rt1_jax.training.fit tells "
            "what fits a TPU)"
        )
    if jax.process_count() == 1:
        return None
    steps = native.list_checkpoints(root)
    return StepFailedError(
        f"process {jax.process_index()} of {jax.process_count()} could not go on at step {step}: "
        f"{next(iter(str(error).splitlines()), '')}. Most likely another process has ended: its "
        f"own output says why. The newest whole checkpoint is "
        f"{steps[-1] if steps else 'none'}; start all processes again with the same --workdir"
    )

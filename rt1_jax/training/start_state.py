"""A train state that begins with a checkpoint's numbers, and perhaps with its optimiser's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rt1_jax.checkpoints import native
from rt1_jax.checkpoints.native import CheckpointError
from rt1_jax.training.fine_tuning import FineTuningError, Start
from rt1_jax.training.frozen import trained_part
from rt1_jax.training.start_report import StartReport


def put_into(state: Any, variables: dict[str, Any]) -> Any:
    """The train state with these variables as its parameters, statistics and their average.

    Every array gets the sharding that it has in `state`; all buffers are new, so that the state may
    be donated.
    """
    like = {"params": state.params, "batch_stats": state.batch_stats}
    here = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    first, second = jax.tree.map(_placed, here, like), jax.tree.map(_placed, here, state.average)
    return state.replace(params=first["params"], batch_stats=first["batch_stats"], average=second)


def continue_optimizer(
    state: Any, start: Start, report: StartReport, frozen: Sequence[str] = ()
) -> Any:
    """The train state with the optimiser's moments of the checkpoint too (`reset_optimizer=False`).

    Schedules begin anew. Of a native run the parameters that it trained go on, rather than their
    average, and the average beside them.

    Args:
      state: of the same model and optimiser, with the checkpoint's variables in it (`put_into`).
      start, report: see `with_start`.
      frozen: the config's paths of parameters that `state`'s optimiser does not hold.

    Raises:
      FineTuningError: not everything is reused, the checkpoint has no moments, or they are of
        another optimiser or of other parameters.
    """
    if not report.everything_reused:
        names = report.of("fresh") + report.of("adapted")
        raise FineTuningError(
            f"start.reset_optimizer is False, but {len(names)} tensors are not "
            f"{start.path.name}'s, the first is {names[0]!r}: the optimiser's moments belong to "
            "its tensors; set --config.start.reset_optimizer=True"
        )
    hint = "set --config.start.reset_optimizer=True"
    if start.moments is not None:
        try:
            moments = dataclasses.replace(
                start.moments,
                first=trained_part(start.moments.first, frozen),
                second=trained_part(start.moments.second, frozen),
            )
            opt_state = moments.put_into(state.opt_state)
        except ValueError as error:
            raise FineTuningError(f"{start.path}: {error}; or {hint}") from error
        return state.replace(opt_state=jax.tree.map(_placed, opt_state, state.opt_state))
    if not (start.path / "training").is_dir():
        raise FineTuningError(f"{start.path} holds no state of an optimiser: {hint}")
    try:
        before, _ = native.load_training(start.path, state)
    except CheckpointError as error:
        raise FineTuningError(
            f"{start.path} was trained with another optimiser, or with other parts frozen "
            f"({error}): {hint}"
        ) from error
    opt_state = _with_schedules_of(before.opt_state, state.opt_state)
    return state.replace(
        params=before.params,
        batch_stats=before.batch_stats,
        average=before.average,
        opt_state=opt_state,
    )


def _placed(value: Any, like: Any) -> jax.Array:
    """A new array of that value with the sharding of another."""
    if isinstance(value, jax.Array):
        return jnp.copy(jax.device_put(value, like.sharding))
    value = np.asarray(value, like.dtype)
    return jax.make_array_from_callback(value.shape, like.sharding, lambda i: value[i].copy())


def _with_schedules_of(old: Any, fresh: Any) -> Any:
    """An optimiser state whose schedules stand where a fresh one's do."""
    is_schedule = lambda node: isinstance(node, optax.ScaleByScheduleState)
    return jax.tree.map(lambda a, b: b if is_schedule(a) else a, old, fresh, is_leaf=is_schedule)

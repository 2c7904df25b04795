"""What ends a run that cannot go on."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from rt1_jax.actions import RT1
from rt1_jax.training.guards import (
    DeviceMemoryError,
    NonFiniteLossError,
    StepFailedError,
    check_actions,
    check_finite,
    step_failed,
)


def state(skipped):
    return SimpleNamespace(skipped=jnp.int32(skipped))


@pytest.mark.parametrize(("skipped", "loss"), [(0, 1.0), (2, 1.0), (2, np.nan)])
def test_what_goes_on(tmp_path, skipped, loss):
    """A batch whose update was left out has a loss that is not finite, and harms nothing."""
    check_finite(7, {"loss": loss}, state(skipped), tmp_path, most=2)


@pytest.mark.parametrize(
    ("skipped", "loss", "told"),
    [
        (3, 1.0, r"not finite by step 7: a gradient \(3 updates .* guards.max_skipped is 2\)"),
        (3, np.inf, r"not finite by step 7: loss \(3 updates"),
        (0, np.nan, r"not finite by step 7: loss \(0 updates"),
    ],
)
def test_what_does_not(tmp_path, skipped, loss, told):
    with pytest.raises(NonFiniteLossError, match=told) as error:
        check_finite(7, {"loss": loss}, state(skipped), tmp_path, most=2)
    assert "there was no checkpoint yet" in str(error.value)


def test_a_model_of_other_tokens():
    check_actions(ConfigDict({"bins": RT1.bins}), RT1)
    with pytest.raises(ValueError, match=r"model.bins is 512, but .* has 256: .*model.bins=256"):
        check_actions(ConfigDict({"bins": 512}), RT1)
    with pytest.raises(ValueError, match=r"model.action_tokens is 8, but .* has 11"):
        check_actions(ConfigDict({"action_tokens": 8}), RT1)


def test_a_step_that_failed_says_where_to_look(tmp_path, monkeypatch):
    error = RuntimeError("Gloo: closed\nmore")
    assert step_failed(9, error, tmp_path, batch=8, parts=2) is None  # alone it is told as it is
    monkeypatch.setattr(jax, "process_count", lambda *_: 2)
    told = step_failed(9, error, tmp_path, batch=8, parts=2)
    assert isinstance(told, StepFailedError)
    assert "could not go on at step 9: Gloo: closed. Most likely another process" in str(told)
    assert "newest whole checkpoint is none" in str(told)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_step_that_does_not_fit_says_what_helps(tmp_path, monkeypatch, processes):
    """Started again it would fail again: not an error that schedulers start again after."""
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.jit(lambda x: x + jnp.zeros(1 << 46))(1.0).block_until_ready()
    monkeypatch.setattr(jax, "process_count", lambda *_: processes)
    told = step_failed(1, error.value, tmp_path, batch=1024, parts=16)
    assert isinstance(told, DeviceMemoryError)
    assert "Out of memory" in str(told)
    assert "64 of batch_size=1024 windows" in str(told)
    assert "step.accumulate" in str(told)

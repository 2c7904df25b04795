"""Checkpoints written in the background."""

import jax.numpy as jnp
import numpy as np
import pytest
import small

from rt1_jax.checkpoints import native
from rt1_jax.checkpoints.saver import CheckpointSaver, detached, remove_leftovers


@pytest.fixture
def description():
    return small.policy_description("rt1", small.small_model(embedding_size=6), step=3)


def variables(value):
    return {"params": {"a": jnp.full((4, 3), value)}, "batch_stats": {"m": jnp.zeros(2)}}


def test_it_appears_whole_and_one_after_another(tmp_path, description):
    seen = []
    saver = CheckpointSaver(seen.append)
    paths = [tmp_path / "checkpoints" / str(step) for step in (1, 2)]
    for number, path in enumerate(paths):
        tree = variables(float(number))
        saver.save(path, description, tree, {"step": jnp.int32(number)}, {"batches": number})
    saver.wait()
    assert seen == paths
    assert native.list_checkpoints(tmp_path) == [1, 2]
    for number, path in enumerate(paths):
        np.testing.assert_array_equal(native.load_variables(path)["params"]["a"], number)
        state, position = native.load_training(path, {"step": jnp.int32(0)})
        assert (int(state["step"]), position) == (number, {"batches": number})


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path, description, monkeypatch):
    saver = CheckpointSaver()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native, "write_atomically", full)
    path = tmp_path / "checkpoints" / "1"
    saver.save(path, description, variables(1.0), None, {})
    with pytest.raises(native.CheckpointError, match=r"checkpoints/1 could not .*No space left"):
        saver.wait()
    assert list((tmp_path / "checkpoints").iterdir()) == []
    saver.wait()  # it is told once
    monkeypatch.undo()
    saver.save(path, description, variables(1.0), None, {})
    saver.wait()
    assert native.list_checkpoints(tmp_path) == [1]


def test_what_cannot_be_begun_is_told_like_what_cannot_be_written(tmp_path, description):
    (tmp_path / "checkpoints").touch()  # a file in place of the directory
    saver = CheckpointSaver()
    saver.save(tmp_path / "checkpoints" / "1", description, variables(1.0), None, {})
    with pytest.raises(native.CheckpointError, match=r"checkpoints/1 could not be written: .*made"):
        saver.wait()


def test_trouble_with_older_ones_is_not_this_ones(tmp_path, description, capsys):
    def busy(path):
        raise OSError(16, "Device or resource busy")

    saver = CheckpointSaver(busy)
    saver.save(tmp_path / "checkpoints" / "1", description, variables(1.0), None, {})
    saver.wait()
    assert native.list_checkpoints(tmp_path) == [1]
    assert "after checkpoint" in (err := capsys.readouterr().err)
    assert "busy" in err


def test_leftovers_of_an_interruption(tmp_path):
    for name in (".7.partial", ".5.removed", "4"):
        (tmp_path / "checkpoints" / name / "variables").mkdir(parents=True)
    assert native.list_checkpoints(tmp_path) == [4]
    remove_leftovers(tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["4"]
    remove_leftovers(tmp_path / "nothing")


def test_a_detached_array_outlives_its_source():
    import jax

    x = jnp.arange(8.0)
    copy = detached({"x": x})["x"]
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    step(x)
    np.testing.assert_array_equal(copy, np.arange(8.0))

"""Less data and fewer tasks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore
from rt1_jax.data.subset import choose_episodes, split_validation


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = small.make_dataset(tmp_path_factory.mktemp("data"), lengths=(2,) * 12)
    return StepStore.open(path)


def test_the_last_episodes_are_held_out(store):
    training, validation = split_validation(store, 3)
    assert (len(training), len(validation)) == (9, 3)
    np.testing.assert_array_equal(validation.instruction_ids, store.instruction_ids[9:])
    assert split_validation(store, 0)[1] is None
    with pytest.raises(DatasetError, match="has only 12 episodes: expected 0 to 11"):
        split_validation(store, 12)
    with pytest.raises(DatasetError, match=r"validation_episodes is -2.*expected 0 to 11"):
        split_validation(store, -2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9))
def test_sets_are_nested_and_hold_nothing_out(store, seed, few, many):
    few, many = sorted((few, many))
    less = choose_episodes(store, 3, episodes=few, tasks=1.0, seed=seed)
    more = choose_episodes(store, 3, episodes=many, tasks=1.0, seed=seed)
    assert (len(less), len(more)) == (few, many)
    assert set(less) <= set(more) <= set(range(9))
    assert (np.diff(more) > 0).all()


def test_all_there_are(store):
    chosen = choose_episodes(store, 3, episodes=0, tasks=1.0, seed=7)
    np.testing.assert_array_equal(chosen, np.arange(9))


def test_a_task_that_is_held_out_whole(tmp_path):
    store = StepStore.open(small.make_dataset(tmp_path / "data", lengths=(2,) * 6))
    held_out = set(store.instruction_ids[3:]) - set(store.instruction_ids[:3])
    assert held_out
    # With one seed the task that is kept is among those to train on, with the other it is not.
    assert len(choose_episodes(store, 3, episodes=0, tasks=0.1, seed=0))
    with pytest.raises(DatasetError, match="keep more tasks"):
        choose_episodes(store, 3, episodes=0, tasks=0.1, seed=3)


def test_fewer_tasks_leave_other_tasks_out(store):
    # The task of these episodes is their instruction: three of them.
    tasks = {}
    for share in (1 / 3, 2 / 3, 1.0):
        chosen = choose_episodes(store, 0, episodes=0, tasks=share, seed=1)
        tasks[share] = set(store.instruction_ids[chosen])
        everywhere = np.flatnonzero(np.isin(store.instruction_ids, [*tasks[share]]))
        np.testing.assert_array_equal(chosen, everywhere)
    assert [len(of) for of in tasks.values()] == [1, 2, 3]
    assert tasks[1 / 3] < tasks[2 / 3]


def test_metadata_say_the_task_where_they_do(store):
    told = [{"task": {"target": "a" if i < 6 else "b"}} for i in range(12)]
    marked = dataclasses.replace(store)
    marked.metadata = lambda: told
    chosen = choose_episodes(marked, 0, episodes=0, tasks=0.5, seed=0)
    assert set(chosen) in (set(range(6)), set(range(6, 12)))


def test_what_cannot_be(store):
    with pytest.raises(DatasetError, match=r"data.tasks is 0.*\(0, 1\]"):
        choose_episodes(store, 0, episodes=0, tasks=0.0, seed=0)
    with pytest.raises(DatasetError, match=r"data.episodes is 10, but .* has only 9 episodes to"):
        choose_episodes(store, 3, episodes=10, tasks=1.0, seed=0)

import collections
import os
import signal

import jax
import numpy as np
import processes
import psutil
import pytest
import small

from rt1_jax.data.loader import ChunkSource, WindowSource, make_loader
from rt1_jax.data.shards import DatasetError
from rt1_jax.data.store import StepStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return StepStore.open(small.make_dataset(tmp_path_factory.mktemp("data") / "data"))


def windows_seen(batches, count):
    """(instruction embedding, first step) of each window, which tells windows apart here."""
    seen = []
    for _ in range(count):
        batch = next(batches)
        for i in range(batch["mask"].shape[0]):
            actions = batch["actions"]["rotation_delta"][i]
            seen.append(actions.tobytes())
    return seen


def test_every_window_once(store):
    source = WindowSource(store, frames=3)
    # lengths 5, 7, 6, 2, 4, 3 in the dataset's order; an episode of 2 gives one padded window.
    assert len(source) == 3 + 5 + 4 + 1 + 2 + 1
    assert len({source[i]["actions"]["rotation_delta"].tobytes() for i in range(len(source))}) == 16


def test_a_window_is_a_run_of_steps(store):
    window = WindowSource(store, frames=3)[1]
    want = store.read(0, start=1, steps=3)
    np.testing.assert_array_equal(window["images"], want.images)
    np.testing.assert_array_equal(window["images"][:, 0, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(window["mask"], 1)


def test_a_short_episode_is_padded_and_masked(store):
    window = WindowSource(store, frames=3)[12]
    np.testing.assert_array_equal(window["mask"], [1, 1, 0])
    np.testing.assert_array_equal(window["images"][2], window["images"][1])


def test_an_epoch_has_each_window_once_and_the_next_another_order(store):
    batches = iter(make_loader(store, frames=3, batch_size=4, seed=1))
    first, second = windows_seen(batches, 4), windows_seen(batches, 4)
    assert len(set(first)) == 16
    assert set(first) == set(second)
    assert first != second


def test_the_order_follows_the_seed(store):
    def start(seed):
        return windows_seen(iter(make_loader(store, frames=3, batch_size=4, seed=seed)), 2)

    assert start(1) == start(1)
    assert start(1) != start(2)


def test_two_processes_share_the_windows(store):
    parts = [
        iter(
            make_loader(store, frames=3, batch_size=4, seed=5, process_index=index, process_count=2)
        )
        for index in range(2)
    ]
    seen = [windows_seen(part, 2) for part in parts]
    assert len(set(seen[0]) | set(seen[1])) == 16


def test_a_position_resumes_at_the_next_batch(store):
    batches = iter(make_loader(store, frames=3, batch_size=4, seed=1))
    windows_seen(batches, 3)
    position = batches.get_state()
    want = windows_seen(batches, 6)
    again = iter(make_loader(store, frames=3, batch_size=4, seed=1))
    again.set_state(position)
    assert windows_seen(again, 6) == want


@pytest.mark.parametrize("frames", [1, 3])
def test_windows_in_which_the_hand_travels_appear_more_often(store, frames):
    """A colour in three moves by 0.04 of 0.05 along x, one by nothing; y is drawn at random."""
    plain, emphasised = WindowSource(store, frames), WindowSource(store, frames, travel_repeats=4)

    def times(source):
        return collections.Counter(
            source[i]["actions"]["rotation_delta"].tobytes() for i in range(len(source))
        )

    once, often = times(plain), times(emphasised)
    assert once.keys() == often.keys()
    for i in range(len(plain)):
        window = plain[i]
        last = int(window["mask"].sum()) - 1
        travels = (np.abs(window["actions"]["world_vector"][last, :2]) >= 0.025).any()
        key = window["actions"]["rotation_delta"].tobytes()
        assert often[key] == (4 if travels else 1)
    assert len(plain) < len(emphasised) < 4 * len(plain)
    with pytest.raises(DatasetError, match="travel_repeats 0"):
        WindowSource(store, frames, travel_repeats=0)


def test_an_epoch_has_the_repeats(store):
    count = len(WindowSource(store, 1, 3))
    batches = iter(make_loader(store, frames=1, batch_size=1, seed=1, travel_repeats=3))
    seen = collections.Counter(windows_seen(batches, count))
    assert set(seen.values()) == {1, 3}


def test_too_few_windows_for_a_batch(store):
    with pytest.raises(DatasetError, match="fewer than one batch of 17"):
        make_loader(store, frames=3, batch_size=17, seed=0)


def test_a_batch_of_one_is_the_row(store):
    """It is not stacked, but the same."""
    source = ChunkSource(store, frames=3, windows=2)
    batch = next(iter(make_loader(store, frames=3, batch_size=1, seed=0, chunk=2)))
    rows = [source[i] for i in range(len(source))]
    stacked = [jax.tree.map(lambda x: np.stack([x]), row) for row in rows]
    same = [
        jax.tree.all(jax.tree.map(np.array_equal, batch, row))
        for row in stacked
        if jax.tree.structure(batch) == jax.tree.structure(row)
    ]
    assert sum(same) == 1
    assert jax.tree.all(jax.tree.map(lambda x, y: x.dtype == y.dtype, batch, stacked[0]))


def worker_processes(parent):
    """Those that read; not multiprocessing's own."""
    children = psutil.Process(parent).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_workers_outlast_a_signal_to_the_whole_job(store):
    """Their parent needs batches until it has saved; see Preemption."""
    options = {"frames": 3, "batch_size": 4, "seed": 1}
    want = windows_seen(iter(make_loader(store, **options)), 40)
    before = set(worker_processes(os.getpid()))
    batches = iter(make_loader(store, workers=2, **options))
    found = windows_seen(batches, 2)
    workers = [child for child in worker_processes(os.getpid()) if child not in before]
    assert len(workers) == 2
    for worker in workers:
        for number in (signal.SIGTERM, signal.SIGINT):
            worker.send_signal(number)
    found += windows_seen(batches, 38)  # far more than are buffered
    assert found == want
    batches.close()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (2, [])


def test_workers_end_with_their_parent(store):
    parent = processes.start("read_for_ever.py", store.directory)
    assert parent.stdout.readline() == "reading\n"
    workers = worker_processes(parent.pid)
    assert len(workers) == 2
    parent.kill()
    parent.communicate()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (2, [])

"""The stream of batches: the same whoever reads it, and the same after a resume."""

import itertools
import json

import jax
import numpy as np
import pytest
import small

from rt1_jax.data.loader import make_loader, prefetch
from rt1_jax.data.store import StepStore

OPTIONS = {"frames": 3, "batch_size": 4, "seed": 1}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return [
        StepStore.open(small.make_dataset(root / "a")),  # 16 windows of 3 frames
        StepStore.open(small.make_dataset(root / "b", lengths=(9, 3, 8, 3, 3))),  # 16, others
    ]


def take(batches, count):
    return [jax.tree.map(np.asarray, next(batches)) for _ in range(count)]


def assert_same(found, want):
    assert len(found) == len(want)
    for one, other in zip(found, want, strict=True):
        assert one.keys() == other.keys()
        for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(x, y)


def ids(batches):
    """One number for each window, which tells them apart."""
    fields = ("rotation_delta", "base_displacement_vector")
    return [
        b"".join(batch["actions"][field][row].tobytes() for field in fields)
        for batch in batches
        for row in range(len(batch["mask"]))
    ]


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("host", [0, 1])
def test_a_resumed_stream_is_the_uninterrupted_one(stores, workers, host):
    def loader(workers):
        return make_loader(
            stores, weights=[1, 2], process_index=host, process_count=2, workers=workers, **OPTIONS
        )

    want = take(iter(loader(0)), 12)
    batches = iter(prefetch(loader(workers), jax.device_put))
    first = take(batches, 5)
    # As a checkpoint holds it.
    position = json.loads(json.dumps(batches.get_state()))
    assert_same(first + take(batches, 7), want)
    resumed = iter(prefetch(loader(workers), jax.device_put))
    resumed.set_state(position)
    assert_same(take(resumed, 7), want[5:])


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("chunk", [1, 2])
def test_every_window_once_an_epoch_over_all_hosts(stores, hosts, chunk):
    def windows(batch):
        """The windows of a batch, of chunks those that are there."""
        if chunk == 1:
            return ids([batch])
        return [
            actions[w : w + 3].tobytes()
            for actions, there in zip(
                batch["actions"]["rotation_delta"], batch["windows"], strict=True
            )
            for w in np.flatnonzero(there)
        ]

    # In chunks of two, the 16 windows are in 2 + 3 + 2 + 1 + 1 + 1 = 10 chunks.
    batches = {1: 16, 2: 10}[chunk] // hosts
    epochs: list[list[bytes]] = [[], []]
    for host in range(hosts):
        loader = make_loader(
            stores[0],
            frames=3,
            batch_size=1,
            seed=3,
            chunk=chunk,
            process_index=host,
            process_count=hosts,
        )
        stream = iter(loader)
        for epoch in epochs:
            epoch += itertools.chain.from_iterable(map(windows, take(stream, batches)))
    assert all(len(epoch) == len(set(epoch)) == 16 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_mixture_keeps_its_weights_and_each_dataset_its_epochs(stores):
    kinds = [
        set(ids(take(iter(make_loader(s, frames=3, batch_size=1, seed=0)), 16))) for s in stores
    ]
    assert len(kinds[0]) == len(kinds[1]) == 16
    mixed = ids(take(iter(make_loader(stores, weights=[3, 1], **OPTIONS)), 16))
    of_a = [window for window in mixed if window in kinds[0]]
    of_b = [window for window in mixed if window in kinds[1]]
    assert (len(of_a), len(of_b)) == (48, 16)
    for epoch in (of_a[:16], of_a[16:32], of_a[32:], of_b):
        assert len(set(epoch)) == 16


def test_a_mixture_without_weights_draws_by_size(stores):
    a_quarter = stores[1].select(np.asarray([2, 2]))  # 2 windows
    mixed = ids(take(iter(make_loader([stores[0], a_quarter], **OPTIONS)), 9))
    again = set(ids(take(iter(make_loader(stores[0], frames=3, batch_size=1, seed=0)), 16)))
    assert sum(window in again for window in mixed) == 32


def test_a_small_dataset_on_many_hosts(stores):
    tiny = stores[0].select(np.asarray([3]))  # one window
    both = make_loader([stores[0], tiny], process_index=1, process_count=2, **OPTIONS)
    assert len(ids(take(iter(both), 9))) == 36


def test_frames_of_two_sizes_are_resized(stores, tmp_path):
    other = StepStore.open(small.make_dataset(tmp_path / "c", size=(32, 40)))
    batches = make_loader([stores[0], other], weights=[1, 1], image_size=(16, 20), **OPTIONS)
    for batch in take(iter(batches), 4):
        assert batch["images"].shape == (4, 3, 16, 20, 3)


class TestBadRequests:
    def test_weights(self, stores):
        with pytest.raises(ValueError, match="1 weights for 2 datasets"):
            make_loader(stores, weights=[1.0], **OPTIONS)
        with pytest.raises(ValueError, match=r"weight of .*b is -1.0, expected a positive"):
            make_loader(stores, weights=[1.0, -1.0], **OPTIONS)

    def test_chunks_and_repeats(self, stores):
        with pytest.raises(ValueError, match="travel_repeats"):
            make_loader(stores[0], chunk=4, travel_repeats=2, **OPTIONS)

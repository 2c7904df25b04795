import asyncio
import threading
import types

import jax.numpy as jnp
import numpy as np
import pytest
import served

from rt1_jax.serving.batching import Batcher, BatcherClosedError, bucket_sizes, how_many


class CountingPolicy:
    """Adds the image's first value to a state; `gate` holds its steps back."""

    description = types.SimpleNamespace(encoder=types.SimpleNamespace(dimensions=2))

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches = []

    def initial_state(self, batch_size, keep=None):
        self.keep = keep
        return {"sum": jnp.zeros((batch_size, 1)), "extra": None}

    def step(self, state, images, embeddings):
        self.entered.release()
        assert self.gate.wait(10)
        self.batches.append((len(images), images[:, 0, 0, 0].tolist()))
        if 255 in images:
            raise FloatingPointError("a robot sent 255")
        total = state["sum"] + images[:, :1, 0, 0]
        # As a policy may: a state that has been stepped holds more than a fresh one.
        return {"sum": total, "extra": jnp.ones((len(images), 3))}, {"x": total * 10}


def image(value, size=(1, 1)):
    return np.full((*size, 3), value, np.uint8)


EMBEDDING = np.zeros(2, np.float32)


@pytest.fixture
def policy():
    return CountingPolicy()


@pytest.fixture
def batcher(policy):
    made = Batcher(policy, max_batch=4)  # not warmed: it knows no times, and pads
    yield made
    policy.gate.set()
    made.close()


async def together(policy, batcher, requests):
    """Sends one request, and while its batch runs the others."""
    while policy.entered.acquire(blocking=False):
        pass
    policy.gate.clear()
    first = asyncio.ensure_future(batcher.step(*requests[0]))
    await asyncio.get_running_loop().run_in_executor(None, policy.entered.acquire)
    rest = [asyncio.ensure_future(batcher.step(*request)) for request in requests[1:]]
    await asyncio.sleep(0.05)
    policy.gate.set()
    return await asyncio.gather(first, *rest, return_exceptions=True)


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12))],
)
def test_bucket_sizes(largest, sizes):
    assert bucket_sizes(largest) == sizes


def test_no_batch_is_no_size():
    with pytest.raises(ValueError, match="max_batch is 0"):
        bucket_sizes(0)


def test_a_lone_request_goes_at_once_and_the_others_gather(policy, batcher):
    requests = [(None, image(i), EMBEDDING) for i in range(7)]
    results = asyncio.run(together(policy, batcher, requests))
    assert [r.action["x"].tolist() for r in results] == [[10 * i] for i in range(7)]
    # One alone; four of the six that waited; the two that were left.
    assert policy.batches == [(1, [0]), (4, [1, 2, 3, 4]), (2, [5, 6])]
    assert [r.batch_size for r in results] == [1, 4, 4, 4, 4, 2, 2]
    assert all(r.queue_seconds >= 0 and r.infer_seconds > 0 for r in results)
    assert all(r.state["sum"].shape == (1, 1) for r in results)


def test_a_batch_is_padded_with_its_last_robot(policy, batcher):
    requests = [(None, image(i), EMBEDDING) for i in range(4)]
    results = asyncio.run(together(policy, batcher, requests))
    assert policy.batches == [(1, [0]), (4, [1, 2, 3, 3])]
    assert [r.batch_size for r in results] == [1, 3, 3, 3]


@pytest.mark.parametrize(
    ("waiting", "seconds", "served_now"),
    [
        (1, {1: 0.1}, 1),
        (3, {}, 3),
        (3, {2: 0.2}, 3),
        (3, {2: 0.2, 4: 0.4}, 2),  # as on a CPU: a row costs what it costs
        (3, {2: 0.2, 4: 0.21}, 3),  # as on an accelerator
        (5, {4: 0.4, 8: 0.8}, 4),
        (7, {4: 0.4, 8: 0.7}, 7),
        (8, {4: 0.1, 8: 0.8}, 8),
        (9, {4: 0.1, 8: 0.8}, 8),
    ],
)
def test_padding_only_where_it_serves_more_a_second(waiting, seconds, served_now):
    assert how_many(waiting, (1, 2, 4, 8), seconds) == served_now


def test_only_what_is_alike_shares_a_batch(policy, batcher):
    stepped = asyncio.run(batcher.step(None, image(0), EMBEDDING)).state
    policy.batches.clear()
    requests = [
        (None, image(0), EMBEDDING),
        (None, image(1), EMBEDDING),
        (None, image(2, size=(2, 2)), EMBEDDING),
        (stepped, image(3), EMBEDDING),
        (None, image(4), EMBEDDING),
        (stepped, image(5), EMBEDDING),
    ]
    results = asyncio.run(together(policy, batcher, requests))
    assert sorted(policy.batches[1:]) == [(1, [2]), (2, [1, 4]), (2, [3, 5])]
    assert [r.action["x"].item() for r in results] == [0, 10, 20, 30, 40, 50]


def test_a_failing_batch_fails_alone(policy, batcher):
    stepped = asyncio.run(batcher.step(None, image(7), EMBEDDING)).state
    requests = [
        (None, image(1), EMBEDDING),
        (None, image(255), EMBEDDING),
        (stepped, image(2), EMBEDDING),
    ]
    first, failed, other = asyncio.run(together(policy, batcher, requests))
    assert isinstance(failed, FloatingPointError)
    assert (first.action["x"].item(), other.action["x"].item()) == (10, 90)
    assert asyncio.run(batcher.step(stepped, image(3), EMBEDDING)).action["x"].item() == 100


def test_a_state_that_cannot_be_made_fails_its_request_only(policy, batcher, monkeypatch):
    def broken(batch_size, keep=None):
        raise MemoryError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(policy, "initial_state", broken)
        with pytest.raises(MemoryError, match="no room"):
            asyncio.run(batcher.step(None, image(1), EMBEDDING))
    assert asyncio.run(batcher.step(None, image(2), EMBEDDING)).action["x"].item() == 20


@pytest.mark.parametrize(("largest", "keep"), [(1, None), (4, False)])
def test_keys_and_values_are_kept_for_a_lone_robot_only(policy, largest, keep):
    made = Batcher(policy, largest)
    asyncio.run(made.step(None, image(1), EMBEDDING))
    made.close()
    assert policy.keep is keep


def test_a_cancelled_request_is_dropped(policy, batcher):
    async def go():
        policy.gate.clear()
        gone = asyncio.ensure_future(batcher.step(None, image(1), EMBEDDING))
        await asyncio.get_running_loop().run_in_executor(None, policy.entered.acquire)
        gone.cancel()
        policy.gate.set()
        return await batcher.step(None, image(2), EMBEDDING)

    assert asyncio.run(go()).action["x"].item() == 20


def test_closing_finishes_what_waits(policy):
    batcher = Batcher(policy, max_batch=2)

    async def go():
        policy.gate.clear()
        steps = [asyncio.ensure_future(batcher.step(None, image(i), EMBEDDING)) for i in range(5)]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, policy.entered.acquire)
        closing = loop.run_in_executor(None, batcher.close)
        await asyncio.sleep(0.05)
        policy.gate.set()
        results = await asyncio.gather(*steps)
        await closing
        with pytest.raises(BatcherClosedError):
            await batcher.step(None, image(0), EMBEDDING)
        return results

    assert [r.action["x"].item() for r in asyncio.run(go())] == [0, 10, 20, 30, 40]


def test_warming_reaches_every_size_twice_and_can_be_stopped(policy, batcher):
    seconds = batcher.warm((2, 3))
    assert sorted(seconds) == [1, 2, 4]
    assert [size for size, _ in policy.batches] == [4] * 3 + [2] * 3 + [1] * 3
    policy.batches.clear()
    assert list(batcher.warm((2, 3), go_on=lambda: len(policy.batches) < 3)) == [4]


def test_robots_in_one_batch_act_as_if_alone():
    """Random arrival, different episode steps: each robot gets the bare policy's actions."""
    policy, robots, steps = served.small_policy(), 6, 5
    batcher = Batcher(policy, served.MAX_BATCH)
    rng = np.random.default_rng(0)
    pauses = rng.uniform(0, 0.01, (robots, steps))

    async def robot(i):
        state, actions, sizes = None, [], []
        embedding = policy.embed([served.instruction(i)])[0]
        for t, frame in enumerate(served.frames(i, steps)):
            await asyncio.sleep(pauses[i, t])
            result = await batcher.step(state, frame, embedding)
            state = result.state
            sizes.append(result.batch_size)
            names = policy.action_spec.field_names
            actions.append(np.concatenate([result.action[name] for name in names]))
        return actions, sizes

    async def go():
        return await asyncio.gather(*(robot(i) for i in range(robots)))

    try:
        results = asyncio.run(go())
    finally:
        batcher.close()
    assert max(size for _, sizes in results for size in sizes) > 1
    for i, (actions, _) in enumerate(results):
        np.testing.assert_allclose(actions, served.bare_actions(i, steps), atol=1e-5)

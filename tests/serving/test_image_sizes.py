import asyncio
import threading

import pytest

from rt1_jax.serving.image_sizes import ImageSizes
from rt1_jax.serving.observation import ObservationError


def run(limit, warm, go):
    sizes = ImageSizes(warm, limit)
    try:
        return asyncio.run(go(sizes))
    finally:
        sizes.close()


def test_each_size_is_compiled_once():
    warmed = []

    async def go(sizes):
        same = [sizes.ready("image", (2, 3)) for _ in range(3)]
        await asyncio.gather(*same, sizes.ready("image", (3, 2)))
        await sizes.ready("image", (2, 3))

    run(2, warmed.append, go)
    assert sorted(warmed) == [(2, 3), (3, 2)]


def test_the_limit_names_the_field_and_the_sizes():
    async def go(sizes):
        await sizes.ready("image", (2, 3))
        with pytest.raises(ObservationError, match=r"^left: 4x4 pixels; .* 1 sizes .* 2x3"):
            await sizes.ready("left", (4, 4))
        await sizes.ready("image", (2, 3))

    run(1, lambda size: None, go)


def test_a_size_that_failed_takes_no_place():
    fails = [True]

    def warm(size):
        if fails.pop():
            fails.append(False)
            raise MemoryError("too large")

    async def go(sizes):
        with pytest.raises(MemoryError):
            await sizes.ready("image", (2, 3))
        await sizes.ready("image", (2, 3))

    run(1, warm, go)


def test_a_new_size_holds_nobody_else_up():
    gate = threading.Event()

    def warm(size):
        if size == (9, 9):
            assert gate.wait(20)

    async def go(sizes):
        await sizes.ready("image", (2, 3))
        new = asyncio.ensure_future(sizes.ready("image", (9, 9)))
        await asyncio.sleep(0.01)
        await asyncio.wait_for(sizes.ready("image", (2, 3)), 5)
        assert not new.done()
        new.cancel()  # the robot that asked is gone; the next one finds it compiled
        gate.set()
        await sizes.ready("image", (9, 9))

    run(2, warm, go)

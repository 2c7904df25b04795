"""Which frame sizes are served: each is another program to compile, so they are few."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable
from typing import Any

from rt1_jax.serving.observation import ObservationError

_LOG = logging.getLogger(__name__)


class ImageSizes:
    """Compiles for new frame sizes apart from the worker, so that other robots keep their pace.

    Args:
      warm: compiles everything for a size (h, w); blocks.
      limit: how many sizes there may be.
    """

    def __init__(self, warm: Callable[[tuple[int, int]], Any], limit: int) -> None:
        self._warm = warm
        self._limit = limit
        self._sizes: dict[tuple[int, int], asyncio.Future[Any] | None] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "warm")

    async def ready(self, field: str, size: tuple[int, int]) -> None:
        """Returns once frames of `size` (h, w) can be served.

        Raises:
          ObservationError: the limit is reached; it names `field`.
        """
        if size not in self._sizes:
            if len(self._sizes) >= self._limit:
                raise ObservationError(field, f"{_text(size)} pixels; {self._refusal()}")
            _LOG.info("compiling for frames of %s", _text(size))
            self._sizes[size] = asyncio.ensure_future(self._compile(size))
        compiling = self._sizes[size]
        if compiling is not None:
            await asyncio.shield(compiling)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _compile(self, size: tuple[int, int]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._warm, size)
        except BaseException:
            del self._sizes[size]  # the next request may try again
            raise
        self._sizes[size] = None

    def _refusal(self) -> str:
        known = ", ".join(map(_text, self._sizes))
        return f"this server takes {self._limit} sizes (--max-image-sizes) and has seen {known}"


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"

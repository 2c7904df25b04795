"""A client for robots: NumPy, msgpack and a websocket, and no JAX.

with PolicyClient("ws://127.0.0.1:8000") as policy:
    reply = policy.step(image, instruction="pick up the red block", reset=True)
    reply["fields"]["world_vector"]  # float32 [1, 3], metres
"""

from __future__ import annotations

import contextlib
import ssl
from types import TracebackType
from typing import Any, Self

import numpy as np
from websockets.sync.client import connect

from rt1_jax.serving import protocol


class PolicyServerError(RuntimeError):
    """The server refused an observation or failed; the text is its own."""


class PolicyClient:
    """One connection, which is one robot's episode after another.

    Args:
      uri: `ws://HOST:PORT` or `wss://HOST:PORT`.
      token: what the server asks for, if anything.
      tls: for certificates that the system does not know.

    Attributes:
      metadata: what the server says of its policy.
    """

    def __init__(
        self, uri: str, token: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        headers = {"Authorization": f"Api-Key {token}"} if token is not None else None
        self._exit = contextlib.ExitStack()
        self._connection = self._exit.enter_context(
            connect(
                uri,
                compression=None,
                max_size=None,
                additional_headers=headers,
                ssl=tls,
                proxy=None,
            )
        )
        self.metadata: dict[str, Any] = protocol.unpack(self._receive())

    def step(
        self,
        image: np.ndarray,
        *,
        instruction: str | None = None,
        embedding: np.ndarray | None = None,
        reset: bool = False,
    ) -> dict[str, Any]:
        """One control step.

        Args:
          image: uint8 [h, w, 3], RGB.
          instruction: what to do, in words ...
          embedding: ... or its embedding, float32 [d].
          reset: this is the first frame of an episode. A new connection starts with one anyway.

        Returns:
          `actions`, float32 [1, n]; `fields`, {field: float32 [1, size]}; `step`; timings in ms.

        Raises:
          PolicyServerError: the server refused; the episode is where it was.
        """
        observation: dict[str, Any] = {"image": image}
        if instruction is not None:
            observation["instruction"] = instruction
        if embedding is not None:
            observation["embedding"] = embedding
        if reset:
            observation["reset"] = True
        self._connection.send(protocol.pack(observation))
        return protocol.unpack(self._receive())

    def reset(self) -> None:
        """Starts a new episode with the next step."""
        self._connection.send(protocol.pack({"reset": True}))
        self._receive()

    def close(self) -> None:
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _receive(self) -> bytes:
        message = self._connection.recv()
        if isinstance(message, str):
            raise PolicyServerError(message)
        return message

"""One connection: metadata first, then a reply for every message, until either side has enough."""

from __future__ import annotations

import asyncio
import logging
import secrets

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from rt1_jax.policies.streaming import PolicyInputError
from rt1_jax.serving import protocol
from rt1_jax.serving.batching import BatcherClosedError
from rt1_jax.serving.observation import ObservationError
from rt1_jax.serving.protocol import ProtocolError
from rt1_jax.serving.service import Episode, PolicyService

_LOG = logging.getLogger(__name__)

GOING_AWAY = 1001
STOPPING = "the server is stopping"


class Session:
    """Serves one robot; its episode lives and dies with the connection.

    Args:
      connection: after the opening handshake.
      service: what answers.
      idle_timeout: seconds without a whole message after which the connection is closed.
    """

    def __init__(
        self, connection: ServerConnection, service: PolicyService, idle_timeout: float
    ) -> None:
        self._connection = connection
        self._service = service
        self._idle_timeout = idle_timeout
        self._episode = Episode()
        self._busy = False
        self._stopping = False

    async def run(self, ready: asyncio.Event) -> None:
        """Serves until the connection is closed; waits for `ready` before it greets."""
        try:
            if not await self._is_ready(ready):
                return
            await self._connection.send(protocol.pack(self._service.metadata()))
            while not self._stopping:
                try:
                    async with asyncio.timeout(self._idle_timeout):
                        message = await self._connection.recv()
                except TimeoutError:
                    reason = f"no message for {self._idle_timeout:g} s"
                    await self._connection.close(GOING_AWAY, reason)
                    return
                self._busy = True
                await self._connection.send(await self._reply(message))
                self._busy = False
            await self._connection.close(GOING_AWAY, STOPPING)
        except ConnectionClosed:
            return  # the client went; nothing of it is left but this frame

    async def stop(self) -> None:
        """Closes the connection, after the reply that is due if there is one."""
        self._stopping = True
        if not self._busy:
            await self._connection.close(GOING_AWAY, STOPPING)

    async def _is_ready(self, ready: asyncio.Event) -> bool:
        """True once the server is ready, False if the client went first."""
        if ready.is_set():
            return True
        waits = [asyncio.ensure_future(x) for x in (ready.wait(), self._connection.wait_closed())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return ready.is_set()

    async def _reply(self, message: str | bytes) -> bytes | str:
        """A packed reply, or the text of an error, which leaves the episode as it was."""
        outcome, reply = "refused", ""
        try:
            if isinstance(message, str):
                raise ProtocolError("message: expected a binary frame (msgpack), got a text frame")
            self._episode, packed = await self._service.answer(self._episode, message)
            self._service.metrics.requests.labels("ok").inc()
            return packed
        except (ProtocolError, ObservationError, PolicyInputError) as error:
            reply = str(error)
            _LOG.info("%s: refused %r", self._peer(), reply)
        except BatcherClosedError as error:
            reply = str(error)
        except Exception:
            outcome, number = "failed", secrets.token_hex(4)
            _LOG.exception("%s: request failed [%s]", self._peer(), number)
            reply = f"internal error [{number}]: the server's log says more"
        self._service.metrics.requests.labels(outcome).inc()
        return reply

    def _peer(self) -> str:
        address = self._connection.remote_address
        return f"{address[0]}:{address[1]}" if address else "a client"

"""The door: plain HTTP pages, tokens, and how many may come in."""

from __future__ import annotations

import asyncio
import http
import logging
import urllib.parse
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from rt1_jax.serving import metrics as metrics_page
from rt1_jax.serving.access import is_allowed
from rt1_jax.serving.metrics import Metrics

_LOG = logging.getLogger(__name__)

# Sockets that have not shaken hands yet, health checks among them.
WAITING_SOCKETS = 64


class Gate:
    """Decides about every request before it becomes a connection.

    Args:
      metrics: counts connections and refusals.
      max_connections: robots served at a time.
      token: what they must show, if anything.
      show_metrics: whether there is a page `/metrics`.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        max_connections: int,
        token: str | None = None,
        show_metrics: bool = True,
    ) -> None:
        self.ready = asyncio.Event()
        self.stopping = False
        self._metrics = metrics
        self._max_connections = max_connections
        self._token = token
        self._show_metrics = show_metrics
        self._sockets: set[ServerConnection] = set()
        self._inside: set[ServerConnection] = set()

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """The page that was asked for, a refusal, or None to open a websocket."""
        path = urllib.parse.urlsplit(request.path).path
        if path == "/healthz":
            if self.stopping or not self.ready.is_set():
                state = "stopping" if self.stopping else "warming up"
                return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{state}\n")
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        authorizations = request.headers.get_all("Authorization")
        if not is_allowed(self._token, authorizations[0] if len(authorizations) == 1 else None):
            self._refused(connection, "token")
            response = connection.respond(
                http.HTTPStatus.UNAUTHORIZED, "expected the header 'Authorization: Api-Key TOKEN'\n"
            )
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if path == "/metrics" and self._show_metrics:
            return _page(self._metrics.page(), metrics_page.CONTENT_TYPE)
        if path != "/":
            return connection.respond(http.HTTPStatus.NOT_FOUND, "no such page\n")
        if len(self._inside) >= self._max_connections:
            self._refused(connection, "full")
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._max_connections} connections are open, and no more are taken\n",
            )
        self._inside.add(connection)
        self._metrics.connections.set(len(self._inside))
        return None

    def abort(self) -> None:
        """Cuts every connection off."""
        for connection in list(self._sockets):
            connection.transport.abort()

    def connection_class(self) -> type[ServerConnection]:
        """A connection that tells the gate when it comes and goes."""
        gate = self

        class GatedConnection(ServerConnection):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                gate._sockets.add(self)
                if len(gate._sockets) > gate._max_connections + WAITING_SOCKETS:
                    gate._refused(self, "sockets")
                    transport.abort()

            def connection_lost(self, exc: Exception | None) -> None:
                gate._sockets.discard(self)
                gate._inside.discard(self)
                gate._metrics.connections.set(len(gate._inside))
                super().connection_lost(exc)

        return GatedConnection

    def _refused(self, connection: ServerConnection, reason: str) -> None:
        self._metrics.refused_connections.labels(reason).inc()
        _LOG.info("refused a connection from %s: %s", connection.remote_address, reason)


def _page(body: bytes, content_type: str) -> Response:
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
    )
    return Response(http.HTTPStatus.OK.value, http.HTTPStatus.OK.phrase, headers, body)

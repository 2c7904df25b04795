"""Serves a policy to robots: `python -m rt1_jax.serving.server --checkpoint=PATH --port=8000`.

docs/serving.md describes the protocol, the flags and what to do when something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import signal
import ssl
import sys
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve

from rt1_jax.serving import access
from rt1_jax.serving.gate import Gate
from rt1_jax.serving.service import PolicyService
from rt1_jax.serving.session import Session

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a server listens.

    Attributes:
      host, port: where; port 0 takes a free one.
      token: what clients must show, if anything.
      tls: certificate and key, if it speaks TLS.
      max_connections: robots at a time.
      max_message_bytes: of one message; longer ones close the connection with code 1009.
      idle_timeout: seconds without a message after which a connection is closed.
      handshake_timeout: seconds that a client has to open a connection.
      grace: seconds that replies due may take when the server stops.
      show_metrics: whether there is a page `/metrics`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    tls: ssl.SSLContext | None = None
    max_connections: int = 64
    max_message_bytes: int = 4 * 2**20
    idle_timeout: float = 300.0
    handshake_timeout: float = 10.0
    grace: float = 10.0
    show_metrics: bool = True


class PolicyServer:
    """Listens, warms up, serves, stops; in one event loop, which never waits for the model."""

    def __init__(self, service: PolicyService, settings: Settings) -> None:
        self._service = service
        self._settings = settings
        self._sessions: set[Session] = set()
        self._server: Server | None = None
        self.gate = Gate(
            service.metrics,
            max_connections=settings.max_connections,
            token=settings.token,
            show_metrics=settings.show_metrics,
        )

    async def start(self) -> int:
        """Listens, and returns the port; robots that come are greeted after `warm`.

        Raises:
          OSError: the address cannot be listened on.
        """
        settings = self._settings
        quiet = logging.getLogger("websockets.server")
        quiet.setLevel(logging.CRITICAL)  # what strangers send is no error of this server
        self._server = await serve(
            self._serve_robot,
            settings.host,
            settings.port,
            ssl=settings.tls,
            origins=[None],  # browsers send one: no web page may reach a robot on this computer
            compression=None,
            process_request=self.gate.process_request,
            create_connection=self.gate.connection_class(),
            server_header=None,
            open_timeout=settings.handshake_timeout,
            close_timeout=5,
            max_size=settings.max_message_bytes,
            max_queue=1,  # replies are waited for one by one
            logger=quiet,
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def warm(self) -> None:
        """Compiles; after it `/healthz` says 200 and robots are greeted."""
        unavailable = await self._service.warm()
        if unavailable is not None:
            _LOG.warning("instructions cannot be embedded: %s", unavailable)
        if not self.gate.stopping:
            self.gate.ready.set()
            self._service.metrics.ready.set(1)

    async def stop(self) -> None:
        """Takes no more robots, sends the replies that are due, says goodbye with code 1001."""
        self.gate.stopping = True
        self._service.stop()
        self._service.metrics.ready.set(0)
        if self._server is not None:
            self._server.close(close_connections=False)
            goodbyes = [asyncio.ensure_future(session.stop()) for session in self._sessions]
            try:
                await asyncio.wait_for(self._server.wait_closed(), self._settings.grace)
            except TimeoutError:
                _LOG.warning("%d connections did not close in time", len(self._sessions))
                self.gate.abort()
                await self._server.wait_closed()
            await asyncio.gather(*goodbyes, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._service.close)

    async def _serve_robot(self, connection: ServerConnection) -> None:
        session = Session(connection, self._service, self._settings.idle_timeout)
        self._sessions.add(session)
        try:
            if self.gate.stopping:
                await session.stop()
            await session.run(self.gate.ready)
        finally:
            self._sessions.discard(session)


async def run(service: PolicyService, settings: Settings) -> int:
    """Serves until SIGINT or SIGTERM; returns the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = PolicyServer(service, settings)
    try:
        port = await server.start()
    except OSError as error:
        service.close()
        print(f"error: cannot listen on {settings.host}:{settings.port} ({error})", file=sys.stderr)
        return 2

    def on_signal() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)  # the second one ends the process at once
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    scheme = "wss" if settings.tls else "ws"
    print(f"listening: {scheme}://{settings.host}:{port}, warming up", flush=True)
    status = 0
    warming = asyncio.ensure_future(server.warm())
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((warming, stopped), return_when=asyncio.FIRST_COMPLETED)
    if warming.done() and warming.exception() is not None:
        _LOG.error("cannot warm up", exc_info=warming.exception())
        status = 1
    elif not stop.is_set():
        print("ready", flush=True)
        await stopped
    stopped.cancel()
    await server.stop()
    await asyncio.gather(warming, return_exceptions=True)
    print("stopped", flush=True)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 where something asked for does not fit."""
    given = _parse(arguments)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("rt1_jax").setLevel(logging.INFO)
    # The event loop gets the interpreter back soon where another thread computes in Python.
    sys.setswitchinterval(0.0005)
    try:
        # Typing errors first: they should not wait for JAX and a checkpoint to load.
        token = access.read_token(given.token_file)
        access.check_exposure(given.host, token, given.allow_anonymous)
        settings = Settings(
            host=given.host,
            port=given.port,
            token=token,
            tls=access.tls_context(given.tls_cert, given.tls_key),
            max_connections=given.max_connections,
            max_message_bytes=given.max_message_bytes,
            idle_timeout=given.idle_timeout,
            show_metrics=given.metrics,
        )
        service = _load_service(given)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return asyncio.run(run(service, settings))


def default_max_batch() -> int:
    """8 on a CPU, where larger batches take more memory and serve no more; else 32."""
    import jax

    return 8 if jax.default_backend() == "cpu" else 32


def _load_service(given: argparse.Namespace) -> PolicyService:
    import rt1_jax
    from rt1_jax.policies.compilation_cache import use_compilation_cache
    from rt1_jax.serving.embeddings import read_embeddings

    use_compilation_cache()  # a restarted server is soon ready
    policy: Any = rt1_jax.load_policy(given.checkpoint, compute=given.compute)
    table = None
    if given.embeddings is not None:
        table = read_embeddings(given.embeddings, policy.description.encoder)
    return PolicyService(
        policy,
        max_batch=given.max_batch or default_max_batch(),
        max_image_sizes=given.max_image_sizes,
        image_keys=given.image_key,
        table=table,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m rt1_jax.serving.server",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    defaults = Settings()
    add("--checkpoint", required=True, help="a run, a checkpoint, or the name of a shipped policy")
    add("--host", default=defaults.host, help="address to listen on")
    add("--port", type=_within(0, 65535), default=defaults.port, help="0 takes a free one")
    add("--compute", choices=("float32", "bfloat16"), default="float32", help="see docs/speed.md")
    add("--max-batch", type=_within(1, 1024), help="default: 8 on a CPU, 32 elsewhere")
    add("--max-connections", type=_within(1, 100_000), default=defaults.max_connections)
    add("--max-message-bytes", type=_within(1024, 2**30), default=defaults.max_message_bytes)
    add("--idle-timeout", type=_seconds, default=defaults.idle_timeout, help="seconds")
    add("--max-image-sizes", type=_within(1, 64), default=4, help="frame sizes to compile for")
    add("--image-key", action="append", default=[], help="another key for the image; repeatable")
    add("--embeddings", help="file of embedded instructions (rt1_jax.serving.embeddings)")
    add("--token-file", help=f"what clients must show; or set {access.TOKEN_VARIABLE}")
    add("--allow-anonymous", action="store_true", help="listen beyond loopback without a token")
    add("--tls-cert", help="PEM file: certificate chain")
    add("--tls-key", help="PEM file: private key")
    add("--metrics", action=argparse.BooleanOptionalAction, default=True, help="page /metrics")
    return parser.parse_args(arguments)


def _within(low: int, high: int) -> Any:
    def whole_number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value}: expected {low} to {high}")
        return value

    return whole_number


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected seconds above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())

"""A thousand bad connections, and the robot beside them notices nothing."""

import os
import pathlib
import socket
import struct
import time

import msgpack
import numpy as np
import pytest
from served import bare_actions, frames, instruction, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from rt1_jax.serving import protocol

KINDS = 10
ROUNDS = 100
GOOD = protocol.pack({"image": np.zeros((16, 16, 3), np.uint8), "instruction": "go"})


def abuse(kind, port):
    """One bad connection; ten kinds."""
    if kind < 4:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            if kind == 1:
                plain.sendall(b"\x16\x03\x01\x02\x00\x01\x00 not HTTP \r\n\r\n")
            elif kind == 2:
                plain.sendall(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n")
            elif kind == 3:
                plain.sendall(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n")
                reset_on_close(plain)
        return
    if kind < 7:
        with shaken_hands(port) as plain:
            if kind == 4:  # gone before it is greeted
                reset_on_close(plain)
            elif kind == 5:  # asks, and is gone before the answer
                plain.sendall(frame_header(len(GOOD)) + GOOD)
                reset_on_close(plain)
            else:  # half a frame
                plain.sendall(frame_header(60_000) + b"abc")
        return
    uri = f"ws://127.0.0.1:{port}"
    with connect(uri, compression=None, proxy=None, ping_interval=None) as connection:
        connection.recv()
        if kind == 7:  # too long
            connection.send(b"\0" * 200_000)
            with pytest.raises(ConnectionClosed):
                connection.recv()
            return
        for message in JUNK if kind == 8 else ["{}", "", "x" * 1000]:
            connection.send(message)
            assert isinstance(connection.recv(), str)


def shaken_hands(port):
    """A plain socket after the opening handshake."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    plain.sendall(
        b"GET / HTTP/1.1\r\nHost: robot\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert plain.recv(12) == b"HTTP/1.1 101"
    return plain


def frame_header(length):
    """Of one binary frame of 126 to 65,535 bytes, masked with zeros."""
    return struct.pack("!BBH", 0x82, 0xFE, length) + b"\0\0\0\0"


JUNK = (
    b"\x91" * 2000,
    b"\xdd\xff\xff\xff\xff",
    msgpack.packb({"image": {b"__ndarray__": True, b"dtype": "O", b"shape": [1], b"data": b"x"}}),
    msgpack.packb({"image": {b"__ndarray__": True, b"dtype": "|u1", b"shape": [2**62]}}),
    msgpack.packb([[[]] * 100] * 100),
    GOOD[:-1],
)


def reset_on_close(plain):
    """The other end sees a connection that is reset, not one that ends."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def resident_bytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files():
    return len(os.listdir("/proc/self/fd"))


def settle(server, connections):
    """Waits until the server holds no more than those connections."""
    deadline = time.monotonic() + 30
    while f"rt1_connections {connections}.0" not in server.get("/metrics")[1]:
        assert time.monotonic() < deadline, "connections were not let go"
        time.sleep(0.05)


def test_a_thousand_abusive_connections_leave_nothing():
    with serving(max_message_bytes=100_000, service={"max_batch": 1}) as server:
        with server.client() as robot:
            for kind in range(KINDS):
                abuse(kind, server.port)  # what is loaded or cached once is no leak
            settle(server, connections=1)
            tasks, files, memory = server.tasks(), open_files(), resident_bytes()
            actions = []
            for i in range(ROUNDS):
                for kind in range(KINDS):
                    abuse(kind, server.port)
                if i % 10 == 0:
                    image = frames(9, 10)[i // 10]
                    actions.append(robot.step(image, instruction=instruction(9))["actions"])
            settle(server, connections=1)
            np.testing.assert_allclose(np.concatenate(actions), bare_actions(9, 10), atol=1e-5)
            assert server.tasks() <= tasks
            assert open_files() <= files
            assert resident_bytes() - memory < 40e6
        settle(server, connections=0)
        assert len(server.server.gate._sockets) <= 1  # that of the page just read
        assert not server.server._sessions

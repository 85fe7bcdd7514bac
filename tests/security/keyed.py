"""Peers with keys, right and wrong, and how their handshakes end."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from imgserve.cli import main
from imgserve.protocol.codec import topic_prefix
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import BrokerBeat
from imgserve.protocol.keys import PeerKey, Role
from imgserve.protocol.sockets import secure_peer
from tests.broker.broker_process import DEADLINE_S, Peer

ENDINGS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)


def keys(state: Path, *words: str) -> str:
    """Run `imgserve keys`; return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["keys", *words, "--state", str(state)]) == 0, printed.getvalue()
    return printed.getvalue()


def key_of(state: Path, name: str) -> PeerKey:
    """Return a key that was made there."""
    return PeerKey.read(state / "keys" / f"{name}.key")


def stranger(role: Role, like: PeerKey) -> PeerKey:
    """Return a sound key for the same broker that nobody permitted."""
    return PeerKey.make(role, "stranger", like.server)


class KeyedPeer(Peer):
    """A `Peer` with a submitter's key and a worker's."""

    def __init__(self, connection: Connection, submitter: PeerKey, worker: PeerKey) -> None:
        super().__init__(connection)
        self._submitter = submitter
        self._worker = worker

    def __enter__(self) -> Self:
        self._context = zmq.Context()
        self.lane = None
        self.events = self._context.socket(zmq.SUB)
        for topic in (self.topic, "beat"):
            self.events.subscribe(topic_prefix(topic))
        secure_peer(self.events, self._submitter)
        self.events.connect(self._connection.events)
        self.jobs = self.socket(zmq.PUSH, self._connection.jobs)
        self.reports = self.socket(zmq.PUSH, self._connection.reports)
        self.wait(BrokerBeat)
        return self

    def socket(self, kind: int, endpoint: str) -> zmq.Socket[bytes]:
        """A connected socket: the submitter's for jobs, the worker's for reports and lanes."""
        connected = self._context.socket(kind)
        connected.sndtimeo = DEADLINE_S * 1000
        own = self._submitter if endpoint == self._connection.jobs else self._worker
        secure_peer(connected, own)
        connected.connect(endpoint)
        return connected


def is_admitted(kind: int, endpoint: str, key: PeerKey | None) -> bool:
    """Try once to connect; return whether the broker let the peer in."""
    with zmq.Context() as context, context.socket(kind) as connecting:
        connecting.linger = 0
        connecting.reconnect_ivl = -1
        secure_peer(connecting, key)
        with connecting.get_monitor_socket(ENDINGS) as monitor:
            connecting.connect(endpoint)
            assert monitor.poll(DEADLINE_S * 1000), "the handshake has no end"
            event = recv_monitor_message(monitor)["event"]
            connecting.disable_monitor()
        return bool(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)


def tcp(endpoint: str) -> socket.socket:
    """Return a bare TCP connection to a ZeroMQ endpoint."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


def is_hung_up(connection: socket.socket) -> bool:
    """Read to the end; tell whether the other side ended it in time."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        try:
            if not connection.recv(4096):
                return True
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
    return False


def greeting(mechanism: bytes) -> bytes:
    """Return a greeting of ZMTP 3.0 (RFC 23)."""
    return b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32)


def huge_command(size_bytes: int) -> bytes:
    """Return the header of a command of so many bytes, and its first few."""
    return b"\x06" + struct.pack(">Q", size_bytes) + b"\x05HELLO"


@contextlib.contextmanager
def many(endpoint: str, count: int) -> Iterator[list[socket.socket]]:
    """Hold so many TCP connections that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(tcp(endpoint)) for _ in range(count)]

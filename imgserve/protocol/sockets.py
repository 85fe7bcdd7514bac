"""How every ZeroMQ socket of imgserve is set up."""

from __future__ import annotations

from typing import Final

import zmq

from imgserve.errors import ProtocolError
from imgserve.protocol.codec import FRAME_LIMIT_BYTES
from imgserve.protocol.keys import Domain, PeerKey, ServerKey

HIGH_WATER_MARK: Final = 10_000
"""Frames in a pipe before its sender blocks (PUSH) or drops (PUB): a few MB of envelopes."""

HANDSHAKE_MS: Final = 5_000
"""A silent peer is dropped after this (libzmq's default is 30 s). One that a ZAP handler refuses by
status 300 connects again after it."""

KEEPALIVE_IDLE_S: Final = 30

# Whole numbers: a flag's own operators are Python, and dearer than the question.
_POLLIN: Final = int(zmq.POLLIN)


def new_socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, *, high_water_mark: int = HIGH_WATER_MARK
) -> zmq.Socket[bytes]:
    """Return a socket with every limit set, before it is bound or connected.

    ZMTP heartbeats stay off: with a full pipe they can abort the process (libzmq 4.3.5). TCP
    keepalive and our own beats tell dead peers.
    """
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, high_water_mark)
    socket.setsockopt(zmq.RCVHWM, high_water_mark)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_LIMIT_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 10)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
    socket.setsockopt(zmq.IPV6, 1)
    return socket


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Tell whether a message is there: cheaper to ask than the exception of an empty socket."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & _POLLIN)


def receive(socket: zmq.Socket[bytes]) -> bytes:
    """Take a message; every one of ours has one frame.

    Raises:
        ProtocolError: it has several; they are gone then.
        zmq.Again: there is none.
    """
    frame = socket.recv(zmq.NOBLOCK, copy=False)
    if not frame.more:
        return frame.bytes
    while socket.recv(zmq.NOBLOCK, copy=False).more:  # a message arrives as a whole
        pass
    raise ProtocolError("the message has several frames")


def secure_peer(socket: zmq.Socket[bytes], key: PeerKey | None) -> None:
    """Make a socket prove its key, and demand the broker's, before it is connected."""
    if key is None:
        return
    socket.setsockopt(zmq.CURVE_PUBLICKEY, key.public.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, key.secret.encode())
    socket.setsockopt(zmq.CURVE_SERVERKEY, key.server.encode())


def refusals(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """Return a socket that gets a message each time the peer refuses this one's key.

    libzmq does not connect again after it, and says nothing elsewhere. It is asked for before the
    socket is connected, and ends with `disable_monitor` of the socket.
    """
    return socket.get_monitor_socket(zmq.Event.HANDSHAKE_FAILED_AUTH)


def secure_server(socket: zmq.Socket[bytes], key: ServerKey | None, domain: Domain) -> None:
    """Make a socket admit only whom the ZAP handler permits, before it is bound.

    CURVE alone admits any key, and so does a domain whose handler is absent, unless the domain is
    enforced (libzmq 4.3.5).
    """
    if key is None:
        return
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, key.secret.encode())
    socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

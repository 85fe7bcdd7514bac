"""How every ZeroMQ socket of imgserve is set up."""

from __future__ import annotations

from typing import Final

import zmq

from imgserve.protocol.codec import FRAME_LIMIT_BYTES

HIGH_WATER_MARK: Final = 10_000
"""Frames in a pipe before its sender blocks (PUSH) or drops (PUB): a few MB of envelopes."""

HANDSHAKE_MS: Final = 5_000
"""A peer that connects and says nothing is dropped after this (libzmq's default is 30 s)."""

KEEPALIVE_IDLE_S: Final = 30


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

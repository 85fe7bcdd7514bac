"""Sockets: one way to make them."""

from __future__ import annotations

import re
from pathlib import Path

import zmq

import imgserve
from imgserve.protocol.sockets import new_socket


def test_sockets_are_made_in_one_place():
    """What is set there, such as IPv6, then holds for every socket."""
    root = Path(imgserve.__file__).parent
    makers = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"context\.socket\(|\.socket\(zmq", path.read_text())
    ]
    assert makers == ["protocol/sockets.py"]


def test_a_peer_is_reached_over_ipv6():
    """Brokers may have an IPv6 address alone."""
    context = zmq.Context()
    try:
        server, client = new_socket(context, zmq.PULL), new_socket(context, zmq.PUSH)
        port = server.bind_to_random_port("tcp://[::1]")
        client.connect(f"tcp://[::1]:{port}")
        client.send(b"reached")
        assert server.poll(10_000)
        assert server.recv() == b"reached"
    finally:
        context.destroy(linger=0)

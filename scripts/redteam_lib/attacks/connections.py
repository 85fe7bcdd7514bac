"""Clients that hold connections."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from scripts.redteam_lib.attack import Arena, Result, attack
from scripts.redteam_lib.attacks.tokens import SMALL
from tests.support.service import Service, exchange

LIMIT: Final = 200
ATTACKER: Final = "127.0.0.2"
TRIES: Final = 20


@contextmanager
def held(port: int, count: int, said: bytes) -> Iterator[list[socket.socket]]:
    """Hold connections from one address; each has said the same."""
    connections = []
    try:
        for _ in range(count):
            try:
                one = socket.create_connection(("127.0.0.1", port), 5, (ATTACKER, 0))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                one.sendall(said)
            except OSError:
                continue  # closed at once
            connections.append(one)
        yield connections
    finally:
        for one in connections:
            one.close()


def answered(service: Service, path: str) -> int:
    """Count the requests of another client that are answered."""
    count = 0
    for _ in range(TRIES):
        connection = http.client.HTTPConnection("127.0.0.1", service.record["port"], timeout=5)
        try:
            count += exchange(connection, "GET", path).status in (200, 404)
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return count


def attacked(arena: Arena, said: bytes) -> Result:
    """Hold more connections than there are and see whether another client gets through."""
    flags = (*SMALL, "--http-connection-limit", str(LIMIT))
    with (
        Service(arena.folder / "service", *flags) as service,
        held(service.record["port"], LIMIT + 100, said),
    ):
        time.sleep(0.2)  # until the gateway has taken them
        got = answered(service, "/jobs/none") + answered(service, "/healthz")
    return Result(got == 2 * TRIES, f"another client had {got} of {2 * TRIES} answers")


@attack("anyone", "who holds connections takes no others' and no probe's")
def answers_never_read(arena: Arena) -> Result:
    """Ask again and again and read nothing."""
    return attacked(arena, b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50)


@attack("anyone", "who holds connections takes no others' and no probe's")
def silent_connections(arena: Arena) -> Result:
    """Connect and say nothing."""
    return attacked(arena, b"")


@attack("anyone", "who holds connections takes no others' and no probe's")
def unfinished_heads(arena: Arena) -> Result:
    """Begin a head and never end it."""
    return attacked(arena, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")


def p99_ms(port: int, count: int) -> float:
    """Ask one after the other, each on a connection of its own."""
    took_s = []
    for _ in range(count):
        began_s = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        exchange(connection, "GET", "/jobs/none")
        connection.close()
        took_s.append(time.monotonic() - began_s)
    return 1000 * sorted(took_s)[count * 99 // 100]


@attack("anyone", "a thousand connections make others wait no longer", timed=True)
def thousand_connections(arena: Arena) -> Result:
    """Hold them in four ways; compare the p99 of another client."""
    count = 2000 if arena.long else 500
    said = (
        b"",
        b"GET / HTTP/1.1\r\nX: ",
        b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 3,
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\n{",
    )
    with Service(arena.folder / "service", *SMALL) as service, contextlib.ExitStack() as stack:
        port = service.record["port"]
        p99_ms(port, 200)  # until everything is loaded
        alone_ms = p99_ms(port, count)
        for each in said:
            stack.enter_context(held(port, 250, each))
        time.sleep(5)  # until the gateway has read what they said
        beside_ms = p99_ms(port, count)
    figure = f"p99 {beside_ms:.1f} ms beside 1,000 connections, {alone_ms:.1f} ms alone"
    return Result(beside_ms < 1.2 * alone_ms, figure)


@attack("anyone", "malformed HTTP is refused, and the next request is answered")
def malformed_http(arena: Arena) -> Result:
    """Two lengths, bad chunks, no Host, a huge header, raw bytes."""
    sent = (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        bytes(range(256)) * 8,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    )
    good = 0
    with Service(arena.folder / "service", *SMALL) as service:
        for said in sent:
            with held(service.record["port"], 1, said) as (one,):
                one.settimeout(5)
                answer = b""
                with contextlib.suppress(OSError):
                    answer = one.recv(100)
                alive = service.send("GET", "/healthz").status == 200
                good += alive and b" 200 " not in answer
    return Result(good == len(sent), f"{good} of {len(sent)} were refused and disturbed nobody")

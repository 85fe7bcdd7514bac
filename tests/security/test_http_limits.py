"""Slow, silent, malformed and oversized HTTP: cut off in time, while others are served."""

from __future__ import annotations

import contextlib
import socket
import time

import psutil
import pytest

from tests.security.keyed import is_hung_up, many
from tests.support.broker_double import BrokerDouble
from tests.support.gateway_run import REQUEST, GatewayRun

LIMIT_S = 0.4


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway of little patience before a scripted broker."""
    with (
        BrokerDouble(tmp_path_factory.mktemp("http")) as double,
        GatewayRun(
            double.path,
            http_idle_timeout_s=LIMIT_S,
            http_body_timeout_s=LIMIT_S,
            http_connection_limit=50,
        ) as run,
    ):
        yield run


def dial(gateway) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=10)


def trickle(connection: socket.socket, data: bytes) -> float:
    """Send a byte now and then until the other side hangs up; return the seconds it took."""
    began_s = time.monotonic()
    connection.settimeout(LIMIT_S / 10)
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
            if not connection.recv(100):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    else:
        pytest.fail("it listened to the end")
    return time.monotonic() - began_s


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"POST / HT",
        HEAD + b"Content-Length: 9\r\n\r\n",
        HEAD + b"Content-Length: 9\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["nothing", "half-a-line", "no-body", "half-a-body", "no-chunk", "idle-after-an-answer"],
)
def test_silence_is_hung_up_on(gateway, start):
    """Wherever in a request it comes."""
    with dial(gateway) as connection:
        began_s = time.monotonic()
        connection.sendall(start)
        assert is_hung_up(connection)
        assert time.monotonic() - began_s < LIMIT_S + 3
    assert gateway.post(REQUEST).status == 200


@pytest.mark.parametrize(
    ("start", "rest"),
    [
        (b"POST / HTTP/1.1\r\n", b"X-A: b\r\n" * 200),
        (HEAD + b"Content-Length: 2000\r\n\r\n", b"{" * 1500),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n" * 300),
    ],
    ids=["header", "body", "chunks"],
)
def test_a_trickle_is_hung_up_on(gateway, start, rest):
    """The limit is for the whole, not for the time between two bytes."""
    with dial(gateway) as connection:
        connection.sendall(start)
        assert trickle(connection, rest) < LIMIT_S + 3
    assert gateway.post(REQUEST).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\x00B: c\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"Content-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n" + b"X-A: " + b"b" * 40_000 + b"\r\n\r\n",
        b"X" * 100_000,
    ],
    ids=[
        "tls", "no-path", "version", "no-host", "two-hosts", "no-colon", "nul", "negative-length",
        "two-lengths", "smuggling", "bad-chunk", "huge-length", "huge-header", "no-end",
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused(gateway, request_bytes):
    """With 400 or the end of the connection, never with work done."""
    with dial(gateway) as connection:
        try:
            connection.sendall(request_bytes)
            answer = connection.recv(4096)
        except ConnectionError:
            answer = b""
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert gateway.post(REQUEST).status == 200


def test_connections_over_the_limit_are_closed_at_once(tmp_path):
    """And those that are open go on; when some end, others get in."""
    patience_s = 5.0
    with (
        BrokerDouble(tmp_path) as double,
        GatewayRun(
            double.path, http_idle_timeout_s=patience_s, http_connection_limit=50
        ) as gateway,
    ):
        with dial(gateway) as open_one, many(f"tcp://127.0.0.1:{gateway.port}", 60):
            open_one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert open_one.recv(4096).startswith(b"HTTP/1.1 200 ")
            with dial(gateway) as late:
                began_s = time.monotonic()
                assert is_hung_up(late)
                assert time.monotonic() - began_s < patience_s
        answer = None
        deadline_s = time.monotonic() + 10
        while answer is None and time.monotonic() < deadline_s:
            try:
                answer = gateway.post(REQUEST)
            except (OSError, ValueError):
                continue
        assert answer is not None
        assert answer.status == 200


def test_slow_large_bodies_do_not_fill_the_memory(tmp_path):
    """All together they have a limit; what is over it still hears its verdict."""
    head = HEAD + b"Content-Length: 1000001\r\n\r\n"
    process = psutil.Process()
    with (
        BrokerDouble(tmp_path) as double,
        GatewayRun(double.path) as roomy,
        contextlib.ExitStack() as stack,
    ):
        before_bytes = process.memory_info().rss
        slow = [stack.enter_context(dial(roomy)) for _ in range(200)]
        for connection in slow:
            connection.sendall(head + b"{" + bytes(999_999))
        assert roomy.post(REQUEST).status == 200
        slow[-1].sendall(b"}")
        assert b'"code": 117' in slow[-1].recv(4096)
        assert process.memory_info().rss - before_bytes < 130_000_000


def test_room_for_bodies_comes_back(tmp_path):
    """When they have their verdict, and when their clients are gone."""
    body = b"{" + bytes(900_000)
    head = HEAD + b"Content-Length: 1000001\r\n\r\n"
    with BrokerDouble(tmp_path) as double, GatewayRun(double.path) as roomy:
        for _ in range(90):  # over BODIES_KEPT_BYTES together
            with dial(roomy) as connection:
                connection.sendall(head + body)
            assert roomy.post(body).json == {"msg": "request parse error"}


def test_every_answer_has_the_security_headers(gateway):
    """Errors, too."""
    for method, path in (("GET", "/healthz"), ("GET", "/nowhere"), ("PUT", "/jobs")):
        headers = gateway.ask(method, path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Server"] is None

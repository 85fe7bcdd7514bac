"""Slow, silent, malformed and oversized HTTP: cut off in time, while others are served."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import socket
import time

import psutil
import pytest
from tornado.iostream import IOStream
from tornado.web import Application

from imgserve.cli import main
from imgserve.gateway.connections import BoundedServer, _Peer, origin_of
from tests.security.keyed import is_hung_up
from tests.support.broker_double import BrokerDouble
from tests.support.eventually import eventually
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


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"POST / HT",
        HEAD + b"Content-Length: 9\r\n\r\n",
        HEAD + b"Content-Length: 9\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
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
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA\x00B: c\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"Content-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: " + b"b" * 40_000 + b"\r\n\r\n",
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


def held(stack, gateway, count, origin="127.0.0.1"):
    """Open connections from one address that say nothing; return them."""
    return [
        stack.enter_context(
            socket.create_connection(("127.0.0.1", gateway.port), 10, source_address=(origin, 0))
        )
        for _ in range(count)
    ]


@pytest.fixture
def limited(tmp_path):
    """A gateway for 40 connections, 10 of one address, with 2 kept back; silence is long."""
    with (
        BrokerDouble(tmp_path) as double,
        GatewayRun(double.path, http_idle_timeout_s=60, http_connection_limit=40) as run,
    ):
        double.figures = {"workers": [{}]}
        yield run


def test_one_address_gets_a_quarter_of_the_connections(limited):
    """Its next is closed at once, its open ones go on, others are served, and places come back."""
    with contextlib.ExitStack() as stack:
        first, *_, late = held(stack, limited, 11)
        assert is_hung_up(late)
        assert limited.ask("POST", "/", REQUEST, origin="127.0.0.2").status == 200
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert eventually(lambda: _status(limited, "127.0.0.1")) == 200


def test_connections_over_the_limit_are_closed_at_once(tmp_path):
    """All of them may be one address's, where a setting says so."""
    with (
        BrokerDouble(tmp_path) as double,
        GatewayRun(
            double.path,
            http_idle_timeout_s=60,
            http_connection_limit=10,  # too few for a reserve
            http_address_limit=10,
        ) as gateway,
        contextlib.ExitStack() as stack,
    ):
        *_, last, late = held(stack, gateway, 11)
        assert is_hung_up(late)
        last.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert last.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_reserve_is_kept_for_probes(limited):
    """Where strangers hold all other connections; whoever wants more is told to come again."""
    with contextlib.ExitStack() as stack:
        for number in range(2, 6):
            held(stack, limited, 10 if number < 5 else 8, f"127.0.0.{number}")
        for path in ("/healthz", "/readyz", "/metrics"):
            answer = limited.ask("GET", path)
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
        answer = limited.post(REQUEST)
        assert (answer.status, answer.json["msg"]) == (503, "too many connections")
        assert answer.headers["Retry-After"] == "1"
        assert limited.ask("GET", "/healthz", port=limited.probe_port).status == 200


def test_a_reserve_is_kept_for_who_has_a_token(tmp_path):
    """A wrong token opens nothing."""
    with BrokerDouble(tmp_path) as double:
        token = make_token(tmp_path)
        with (
            GatewayRun(double.path, http_idle_timeout_s=60, http_connection_limit=40) as gateway,
            contextlib.ExitStack() as stack,
        ):
            for number in range(2, 6):
                held(stack, gateway, 10 if number < 5 else 8, f"127.0.0.{number}")
            assert gateway.post(REQUEST, Authorization=f"Bearer {token}").status == 200
            assert gateway.post(REQUEST, Authorization="Bearer wrong").status == 401


def test_a_reserved_connection_must_show_its_use_at_once(limited, monkeypatch):
    """Silent ones leave room for the next, long before an idle one would."""
    monkeypatch.setattr("imgserve.gateway.connections.RESERVED_HEAD_S", LIMIT_S)
    with contextlib.ExitStack() as stack:
        for number in range(2, 6):
            held(stack, limited, 10 if number < 5 else 8, f"127.0.0.{number}")
        for connection in held(stack, limited, 2):
            assert is_hung_up(connection)
        assert eventually(lambda: _status(limited, "127.0.0.1")) == 200


def make_token(state) -> str:
    """Make a token in a state folder; return it."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["token", "new", "any", "--state", str(state)]) == 0
    return printed.getvalue().split()[-1]


def _status(gateway, origin):
    """The status of a probe; 0 where the connection is closed at once."""
    try:
        return gateway.ask("GET", "/healthz", origin=origin).status
    except (OSError, http.client.HTTPException):
        return 0


ASK = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def hasty(tmp_path):
    """A gateway with short limits of writing and long ones of silence."""
    with (
        BrokerDouble(tmp_path) as double,
        GatewayRun(double.path, http_idle_timeout_s=60, http_write_timeout_s=3) as run,
    ):
        double.figures = {"workers": []}
        yield run


def read_slowly(gateway, bytes_s, for_s):
    """Ask for more answers than any buffer holds, and read them at a rate, for so long."""
    with socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.connect(("127.0.0.1", gateway.port))
        greedy.settimeout(0.1)
        began_s, taken = time.monotonic(), 0
        while (passed_s := time.monotonic() - began_s) < for_s:
            with contextlib.suppress(TimeoutError):
                greedy.sendall(ASK * 20)
            with contextlib.suppress(TimeoutError):
                while taken < passed_s * bytes_s:
                    taken += len(greedy.recv(min(4096, int(passed_s * bytes_s) - taken + 1)))


@pytest.mark.parametrize("bytes_s", [0, 40, 900])
def test_who_does_not_read_is_cut_off(hasty, bytes_s):
    """However often a little is taken: the rest waits too long."""
    with pytest.raises(ConnectionError):
        read_slowly(hasty, bytes_s, for_s=30)
    assert hasty.ask("GET", "/healthz").status == 200


def test_a_slow_line_is_not_cut_off(hasty):
    """It always has something to take, and takes it as fast as it can."""
    read_slowly(hasty, 20_000, for_s=6)


def test_who_reads_at_leisure_is_served(hasty):
    """Over the limit in all, but never with an answer that waits so long."""
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=10) as steady:
        began_s = time.monotonic()
        while time.monotonic() < began_s + 5:
            steady.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert steady.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
        (("", 0), "?"),
    ],
)
def test_an_origin_is_what_one_peer_can_have_many_addresses_of(address, origin):
    """Of IPv6 a customer has 2^64 addresses."""
    assert origin_of(address) == origin


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


def test_connection_that_has_just_closed_is_not_stuck():
    """Between its end and the server's notice there is nothing to look at."""

    async def scenario() -> bool:
        ours, theirs = socket.socketpair()
        with theirs:
            stream = IOStream(ours)
            stream.close()
            return BoundedServer(Application())._stuck(stream, _Peer("a", reserved=False), 0.0)

    assert not asyncio.run(scenario())

"""HTTP: redirects, statuses, credentials, kept connections, downloads in progress."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

import pytest

from imgserve.errors import SourceForbidden, SourceTooLarge, SourceUnreachable, UploadFailed
from imgserve.request import Destination
from imgserve.worker.transfers import Transfers, TransferSettings
from imgserve.worker.transfers.policy import AddressRules, judge
from tests.support.hostile_servers import HostileServer, Peer
from tests.support.http_server import HttpServer, Reply
from tests.support.tls import Certificate
from tests.worker.transfers.running import OPEN, fetch, upload

ASKS_FOR_BASIC = Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_transient_statuses_are_worth_a_retry(server: HttpServer, status: int) -> None:
    """At both ends such a status is retryable, and its Retry-After is kept."""
    server.script["/a.png"] = [Reply(status, {"Retry-After": "7"}, b"busy")]
    with pytest.raises(SourceUnreachable, match=str(status)) as fetching:
        fetch(server.url("/a.png"))
    with pytest.raises(UploadFailed, match=str(status)) as uploading:
        upload(Destination(server.url("/a.png")), b"x")
    for error in (fetching.value, uploading.value):
        assert error.retryable
        assert error.retry_after_s == 7


def test_a_copy_by_a_proxy_is_a_source(server: HttpServer) -> None:
    """203 comes with the whole picture."""
    server.script["/a.png"] = [Reply(203, {}, b"picture")]
    assert fetch(server.url("/a.png")) == b"picture"


def test_a_header_whose_name_begins_like_a_status_line_is_a_header(server: HttpServer) -> None:
    """Only a version and a status make a status line."""
    server.script["/a.png"] = [Reply(200, {"HTTP/x": "y", "HTTP/1.1x": "2"}, b"picture")]
    assert fetch(server.url("/a.png")) == b"picture"


def test_success_before_the_whole_body_is_no_success() -> None:
    """A server that answers in the middle of an upload has not got the picture."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.connection.recv(65_536)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.wait(1)

    with (
        HostileServer(behave) as server,
        pytest.raises(UploadFailed, match="of 40000000") as caught,
    ):
        upload(Destination(server.url("/a.png")), bytes(40_000_000))
    assert caught.value.retryable


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 410])
def test_other_statuses_are_final(server: HttpServer, status: int) -> None:
    """Only 200 brings a source, and a lasting refusal is not retried."""
    server.script["/a.png"] = [Reply(status)]
    with pytest.raises(SourceUnreachable, match=str(status)) as caught:
        fetch(server.url("/a.png"))
    assert not caught.value.retryable


def test_retry_after_may_be_a_date(server: HttpServer) -> None:
    """A date is turned into the seconds until then."""
    then = datetime.now(UTC) + timedelta(seconds=100)
    server.script["/a.png"] = [Reply(503, {"Retry-After": format_datetime(then, usegmt=True)})]
    with pytest.raises(SourceUnreachable) as caught:
        fetch(server.url("/a.png"))
    assert caught.value.retry_after_s == pytest.approx(100, abs=10)


def test_the_body_of_an_error_is_no_source(server: HttpServer) -> None:
    """An error page over the limit is its error, not a source that is too large."""
    server.script["/a.png"] = [Reply(404, body=bytes(100_000))]
    with pytest.raises(SourceUnreachable, match="404 Not Found"):
        fetch(server.url("/a.png"), limit_bytes=1000)


def test_a_source_without_an_announced_size_is_counted(server: HttpServer) -> None:
    """A chunked body over the limit is 206."""
    server.script["/a.png"] = [Reply(200, {"Transfer-Encoding": "chunked"}, bytes(1001))]
    with pytest.raises(SourceTooLarge):
        fetch(server.url("/a.png"), limit_bytes=1000)
    assert fetch(server.url("/a.png"), limit_bytes=1001) == bytes(1001)


@pytest.mark.parametrize("reset", [False, True])
def test_a_truncated_source_is_worth_a_retry(server: HttpServer, reset: bool) -> None:
    """A body that breaks off is no source, however the connection ends."""
    server.script["/a.png"] = [Reply(body=bytes(10_000), cut_at=5000, reset=reset)]
    with pytest.raises(SourceUnreachable) as caught:
        fetch(server.url("/a.png"))
    assert caught.value.retryable


def test_a_trickling_source_is_given_up(server: HttpServer) -> None:
    """A source slower than the low-speed limit does not last as long as the whole timeout."""
    server.script["/a.png"] = [Reply(body=bytes(1000), pause_s=0.05)]
    with pytest.raises(SourceUnreachable, match="too slow") as caught:
        fetch(server.url("/a.png"), replace(OPEN, low_speed_time_s=1))
    assert caught.value.retryable


def test_a_silent_source_times_out(server: HttpServer) -> None:
    """The whole fetch has a limit in time."""
    gate = threading.Event()
    server.script["/a.png"] = [Reply(body=b"xx", gate=gate)]
    with pytest.raises(SourceUnreachable, match="too slow"):
        fetch(server.url("/a.png"), replace(OPEN, fetch_timeout_s=0.2))
    gate.set()


@pytest.mark.parametrize("redirects", [4, 5])
def test_redirects_up_to_the_limit_are_followed(server: HttpServer, redirects: int) -> None:
    """Up to five redirects lead to the source."""
    for index in range(redirects):
        server.script[f"/{index}"] = [Reply(302, {"Location": f"/{index + 1}"})]
    server.files[f"/{redirects}"] = b"found"
    assert fetch(server.url("/0")) == b"found"


def test_more_redirects_are_not_followed(server: HttpServer) -> None:
    """The sixth redirect ends the fetch."""
    server.script["/a.png"] = [Reply(302, {"Location": "/a.png"})]
    with pytest.raises(SourceUnreachable, match="redirects more often"):
        fetch(server.url("/a.png"))
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_uploads_follow_no_redirect(server: HttpServer, status: int) -> None:
    """A redirected PUT fails; followed, it could become a GET that stores nothing."""
    server.script["/a.png"] = [Reply(status, {"Location": "/b.png"})]
    with pytest.raises(UploadFailed, match="follow no redirect"):
        upload(Destination(server.url("/a.png")), b"x")
    assert [request.path for request in server.requests] == ["/a.png"]


def test_credentials_do_not_cross_origins(server: HttpServer) -> None:
    """A redirect to another origin carries no user name and password; to the same it does."""
    with HttpServer() as other:
        other.files["/b.png"] = b"x"
        server.script["/a.png"] = [ASKS_FOR_BASIC, Reply(302, {"Location": "/c.png"})]
        server.script["/c.png"] = [Reply(302, {"Location": other.url("/b.png")})]
        assert fetch(server.url("/a.png", userinfo="user:secret")) == b"x"
        sent = ["authorization" in request.headers for request in server.requests]
        assert sent == [False, True, True]  # the first is asked for them
        assert "authorization" not in other.requests[0].headers


def test_jobs_share_no_cookies_and_no_credentials(server: HttpServer) -> None:
    """What one transfer was given, the next on the same connection does not send."""
    server.script["/a.png"] = [ASKS_FOR_BASIC, Reply(200, {"Set-Cookie": "id=1; Path=/"}, b"x")]

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for userinfo in ("user:secret", ""):
                async with transfers.fetch(server.url("/a.png", userinfo=userinfo)) as download:
                    await download.body()

    asyncio.run(run())
    assert server.connections == 1
    assert "authorization" in server.requests[1].headers
    assert not {"authorization", "cookie"} & set(server.requests[2].headers)


def test_a_kept_connection_that_died_is_replaced(server: HttpServer) -> None:
    """An upload over a connection that the server closed without a word still arrives whole."""
    body = bytes(range(256)) * 4000

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for index in range(3):
                destination = Destination(server.url(f"/{index}.png"))
                await transfers.upload(destination, body, content_type="image/png")

    server.script["/0.png"] = [Reply(201, hang_up=True)]
    server.script["/1.png"] = [Reply(201), Reply(201)]
    asyncio.run(run())
    assert server.requests[1].body == body
    assert server.stored["/2.png"] == body


def test_an_upload_is_sent_again_when_the_kept_connection_breaks_under_it(
    server: HttpServer,
) -> None:
    """A server may close a kept connection just when the next upload is on its way."""
    body = bytes(range(256)) * 4000

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for name in ("/0.png", "/1.png"):
                await transfers.upload(
                    Destination(server.url(name)), body, content_type="image/png"
                )

    server.script["/1.png"] = [Reply(silent=True), Reply(201)]
    asyncio.run(run())
    assert [request.body == body for request in server.requests] == [True, True, True]
    assert server.connections == 2


def test_connections_are_reused_across_jobs(server: HttpServer) -> None:
    """Transfers one after the other need one connection."""
    server.files["/a.png"] = b"x"

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for index in range(5):
                async with transfers.fetch(server.url("/a.png")) as download:
                    await download.body()
                await transfers.upload(
                    # Large enough for curl to ask with Expect, were it let.
                    Destination(server.url(f"/{index}")),
                    bytes(1_500_000),
                    content_type="image/png",
                )

    asyncio.run(run())
    assert server.connections == 1
    assert all("expect" not in request.headers for request in server.requests)
    assert all("accept-encoding" not in request.headers for request in server.requests)


def test_the_head_is_there_while_the_rest_still_arrives(server: HttpServer) -> None:
    """head() returns with the first bytes; the one GET goes on and body() brings the rest."""
    gate = threading.Event()
    body = bytes(range(256)) * 100
    server.script["/a.png"] = [Reply(body=body, gate=gate, gate_at=1000)]

    async def run() -> None:
        async with Transfers(OPEN) as transfers, transfers.fetch(server.url("/a.png")) as download:
            head = await download.head(1000)
            assert head == body[:1000]
            assert not download.complete
            gate.set()
            assert await download.head(10**6) == body
            assert download.complete
            assert await download.body() == body

    asyncio.run(run())
    assert len(server.requests) == 1


def test_the_head_outlives_a_failure_that_comes_later(server: HttpServer) -> None:
    """What has arrived may be read; body() tells the failure."""
    server.script["/a.png"] = [Reply(body=bytes(10_000), cut_at=5000)]

    async def run() -> None:
        async with Transfers(OPEN) as transfers, transfers.fetch(server.url("/a.png")) as download:
            assert len(await download.head(5000)) == 5000
            with pytest.raises(SourceUnreachable):
                await download.body()
            with pytest.raises(SourceUnreachable):
                await download.head(5001)

    asyncio.run(run())


def test_leaving_a_download_ends_it(server: HttpServer) -> None:
    """An abandoned download leaves nothing behind, and the engine serves on."""
    gate = threading.Event()
    server.script["/a.png"] = [Reply(body=bytes(2000), gate=gate, gate_at=1000)]
    server.files["/b.png"] = b"x"

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            async with transfers.fetch(server.url("/a.png")) as download:
                await download.head(1)
            async with transfers.fetch(server.url("/b.png")) as download:
                assert await download.body() == b"x"

    asyncio.run(run())
    gate.set()


def test_an_untrusted_certificate_is_refused(certificate: Certificate) -> None:
    """A server that the authorities do not know is no source, for good."""
    with HttpServer(certificate=certificate) as server:
        server.files["/a.png"] = b"x"
        with pytest.raises(SourceUnreachable, match="certificate") as caught:
            fetch(server.url("/a.png"))
        assert not caught.value.retryable
        assert fetch(server.url("/a.png"), replace(OPEN, verify_tls=False)) == b"x"


def test_cookie_of_a_redirect_comes_back_in_the_same_chain() -> None:
    """A server that redirects to itself until the cookie is there; the next job begins anew."""
    seen: list[str] = []

    def behave(peer: Peer) -> None:
        while line := peer.line():
            if line.lower().startswith(b"cookie:"):
                seen.append(line.decode().strip())
            if not line.strip():
                break
        if len(seen) % 2 == 1:
            seen.append("-")
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\npicture")
        else:
            peer.send(
                b"HTTP/1.1 302 Found\r\nLocation: /a.png\r\nSet-Cookie: seen=1; Path=/\r\n"
                b"Set-Cookie: other=2; Domain=elsewhere.example\r\n"
                b"Content-Length: 0\r\nConnection: close\r\n\r\n"
            )

    async def run(url: str) -> None:
        async with Transfers(OPEN) as transfers:
            for _ in range(2):
                async with transfers.fetch(url) as download:
                    assert await download.body() == b"picture"

    with HostileServer(behave) as server:
        asyncio.run(run(f"http://127.0.0.2:{server.port}/a.png"))
    assert seen == ["Cookie: seen=1", "-"] * 2


def test_cookies_go_to_nobody_else(server: HttpServer) -> None:
    """A redirect to another host leaves them behind."""
    with HttpServer(host="127.0.0.2") as other:
        other.files["/b.png"] = b"picture"
        headers = {"Location": other.url("/b.png"), "Set-Cookie": "secret=1"}
        server.script["/a.png"] = [Reply(302, headers)]
        assert fetch(server.url("/a.png")) == b"picture"
        assert "cookie" not in {name.lower() for name in other.requests[0].headers}


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (b"http://fa\xdf.invalid/a.png", "the URL is malformed"),
        (
            "http://fa\xdf.invalid/a.png".encode(),
            "the host name xn--fa-hia.invalid does not resolve",
        ),
    ],
)
def test_redirect_to_a_host_outside_ascii_goes_to_that_host(location: bytes, said: str) -> None:
    """As UTF-8; bytes that are none name no host."""

    def behave(peer: Peer) -> None:
        peer.request()
        head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n"
        peer.send(head + b"Location: " + location + b"\r\n\r\n")

    with HostileServer(behave) as hostile, pytest.raises(SourceUnreachable, match=said):
        fetch(f"http://127.0.0.2:{hostile.port}/a.png")


def test_flood_of_cookies_is_bounded(server: HttpServer) -> None:
    """Neither a thousand nor a huge one grows the next request beyond what servers take."""

    def behave(peer: Peer) -> None:
        lines = []
        while (line := peer.line()).strip():
            lines.append(line)
        if lines[0].startswith(b"GET /b"):
            sent.append(sum(map(len, lines)))
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na")
        else:
            flood = b"".join(b"Set-Cookie: c%d=%s\r\n" % (n, 500 * b"x") for n in range(400))
            huge = b"Set-Cookie: huge=" + 50_000 * b"y" + b"\r\n"
            head = b"HTTP/1.1 302 Found\r\nLocation: /b.png\r\nContent-Length: 0\r\n"
            peer.send(head + flood + huge + b"Connection: close\r\n\r\n")

    sent: list[int] = []
    with HostileServer(behave) as hostile:
        assert fetch(f"http://127.0.0.2:{hostile.port}/a.png") == b"a"
    assert 0 < sent[0] < 60_000


class DigestServer:
    """A server that asks for Digest (RFC 7616) and checks what it gets.

    Args:
        basic_too: whether it offers Basic beside it.
        early: whether it asks before it has read the body.
    """

    def __init__(self, *, basic_too: bool = True, early: bool = False) -> None:
        self.basic_too = basic_too
        self.early = early
        self.received_bytes = 0
        self.stored: dict[bytes, bytes] = {}
        self.authorizations: list[bytes] = []

    def behave(self, peer: Peer) -> None:
        method, path = peer.line().split()[:2]
        headers = {}
        while line := peer.line().strip():
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        given = headers.get(b"authorization", b"")
        self.authorizations.append(given.partition(b" ")[0])
        body = b""
        if given or not self.early:
            if b"expect" in headers:
                peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            while len(body) < int(headers.get(b"content-length", 0)):
                body += peer.connection.recv(65_536)
        self.received_bytes += len(body)
        if given.lower().startswith(b"digest ") and self._is_right(method.decode(), given.decode()):
            if method == b"GET":
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n"
                peer.send(answer + b"Connection: close\r\n\r\npicture")
                return
            self.stored[path] = body
            peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        offers = b'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\n'
        if self.basic_too:
            offers = b'WWW-Authenticate: Basic realm="r"\r\n' + offers
        head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n"
        peer.send(head + offers + b"\r\n")

    def _is_right(self, method: str, given: str) -> bool:
        md5 = partial(hashlib.md5, usedforsecurity=False)
        pairs = dict(re.findall(r'(\w+)="?([^",]*)"?', given.partition(" ")[2]))
        first = md5(b"user:r:pass").hexdigest()
        second = md5(f"{method}:{pairs['uri']}".encode()).hexdigest()
        middle = f"{pairs['nc']}:{pairs['cnonce']}:auth"
        whole = f"{first}:n:{middle}:{second}"
        return pairs["response"] == md5(whole.encode()).hexdigest()


@pytest.mark.parametrize("basic_too", [False, True])
def test_digest_is_answered_where_a_server_asks_for_it(basic_too: bool) -> None:
    """For sources and destinations; Basic, which shows the password, is never sent."""
    digest = DigestServer(basic_too=basic_too)

    async def run(base: str) -> None:
        async with Transfers(OPEN) as transfers:
            for number in range(2):
                async with transfers.fetch(f"{base}/a.png") as download:
                    assert await download.body() == b"picture"
                destination = Destination(f"{base}/{number}.png")
                await transfers.upload(destination, b"x" * 200_000, content_type="image/png")

    with HostileServer(digest.behave) as server:
        asyncio.run(run(f"http://user:pass@127.0.0.2:{server.port}"))
    assert digest.stored == {b"/0.png": b"x" * 200_000, b"/1.png": b"x" * 200_000}
    assert set(digest.authorizations) == {b"", b"Digest"}


def test_early_question_for_digest_costs_no_second_upload() -> None:
    """A large result waits for it, and is sent once."""
    digest = DigestServer(early=True)
    body = b"x" * 3_000_000
    with HostileServer(digest.behave) as server:
        upload(Destination(f"http://user:pass@127.0.0.2:{server.port}/a.png"), body)
    assert digest.stored == {b"/a.png": body}
    assert digest.received_bytes == len(body)


def test_success_before_the_whole_body_is_none_after_a_question_either() -> None:
    """What was sent before the server asked for credentials does not count."""

    def behave(peer: Peer) -> None:
        head = b""
        while line := peer.line().strip():
            head += line + b"\r\n"
        if b"Authorization" not in head:
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            for _ in range(4_000_000 // 50_000):
                peer.connection.recv(50_000, socket.MSG_WAITALL)
            peer.send(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
            behave(peer)
            return
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.connection.recv(50_000, socket.MSG_WAITALL)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.wait(1)

    with (
        HostileServer(behave) as server,
        pytest.raises(UploadFailed, match=r"200 after [0-9]+ of 4000000 bytes"),
    ):
        upload(Destination(f"http://u:p@127.0.0.2:{server.port}/a.png"), b"x" * 4_000_000)


def test_basic_is_sent_where_a_server_asks_for_it_and_then_at_once(server: HttpServer) -> None:
    """Over http the first request to an origin goes without."""
    server.credentials = ("user", "secret")
    server.files["/a.png"] = b"x"

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for _ in range(2):
                source = server.url("/a.png", userinfo="user:secret")
                async with transfers.fetch(source) as download:
                    await download.body()

    asyncio.run(run())
    sent = ["authorization" in request.headers for request in server.requests]
    assert sent == [False, True, True]


def test_over_tls_basic_is_sent_at_once(certificate: Certificate) -> None:
    """Nobody listens, and it saves a round trip."""
    settings = replace(OPEN, ca_file=str(certificate.ca_file))
    with HttpServer(certificate=certificate, credentials=("user", "secret")) as server:
        server.files["/a.png"] = b"x"
        assert fetch(server.url("/a.png", userinfo="user:secret"), settings) == b"x"
    assert ["authorization" in request.headers for request in server.requests] == [True]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_server_that_asks_nobody_for_credentials_gets_them(server: HttpServer, status: int) -> None:
    """Some hide what strangers may not see, and some forget the header."""
    server.script["/a.png"] = [Reply(status), Reply(200, {}, b"x")]
    assert fetch(server.url("/a.png", userinfo="user:secret")) == b"x"
    assert "authorization" in server.requests[1].headers


def test_one_origin_may_ask_in_two_ways() -> None:
    """Its folders may differ; where it has asked for Digest, no password goes along unasked."""
    digest = DigestServer(basic_too=False)
    basic: list[bytes] = []

    def behave(peer: Peer) -> None:
        method_and_path = peer.connection.recv(20, socket.MSG_PEEK)
        if b"/digest/" in method_and_path:
            digest.behave(peer)
            return
        head = b""
        while line := peer.line().strip():
            head += line + b"\r\n"
        basic.append(head)
        if b"Authorization: Basic" in head:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
        else:
            answer = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="r"\r\nContent-Length: 0'
            peer.send(answer + b"\r\nConnection: close\r\n\r\n")

    async def run(base: str) -> None:
        async with Transfers(OPEN) as transfers:
            for path in ("/basic/1", "/digest/1", "/basic/2", "/digest/2"):
                async with transfers.fetch(base + path) as download:
                    assert await download.body()

    with HostileServer(behave) as server:
        asyncio.run(run(f"http://user:pass@127.0.0.2:{server.port}"))
    assert [b"Authorization" in head for head in basic] == [False, True, False, True]
    # Until then it had asked for Basic alone.
    assert digest.authorizations == [b"Basic", b"", b"Digest", b"", b"Digest"]


def test_wrong_password_ends_with_the_servers_status() -> None:
    """It is asked a bounded number of times."""
    digest = DigestServer(basic_too=True)
    with (
        HostileServer(digest.behave) as server,
        pytest.raises(SourceUnreachable, match="401") as caught,
    ):
        fetch(f"http://user:wrong@127.0.0.2:{server.port}/a.png")
    assert not caught.value.retryable
    assert len(digest.authorizations) <= 4


@pytest.mark.parametrize("status", [404, 409, 500])
def test_refused_put_names_the_likely_cause(server: HttpServer, status: int) -> None:
    """A folder that is missing, which servers tell in many ways."""
    server.script["/no/a.png"] = [Reply(status)]
    with pytest.raises(UploadFailed, match="the folder does not exist"):
        upload(Destination(server.url("/no/a.png")), b"x")


def test_private_networks_can_be_closed_together() -> None:
    """All of them, and by each spelling; what is allowed by name stays open."""
    settings = TransferSettings(
        deny_private=True, connect_timeout_s=1, allow_networks=("10.1.0.0/16",)
    )
    for host in ("10.0.0.1", "172.31.0.1", "192.168.1.1", "[fd12::1]", "[::ffff:10.0.0.1]"):
        with pytest.raises(SourceForbidden, match="a private address"):
            fetch(f"http://{host}/a.png", settings)
    rules = AddressRules.parse(("10.1.0.0/16",), (), private=False)
    assert judge("10.1.2.3", rules) == ""
    assert judge("10.0.0.1", AddressRules()) == ""

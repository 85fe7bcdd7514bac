"""HTTP: redirects, statuses, credentials, kept connections, downloads in progress."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from imgserve.errors import SourceTooLarge, SourceUnreachable, UploadFailed
from imgserve.request import Destination
from imgserve.worker.transfers import Transfers
from tests.support.hostile_servers import HostileServer, Peer
from tests.support.http_server import HttpServer, Reply
from tests.support.tls import Certificate
from tests.worker.transfers.running import OPEN, fetch, upload


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
        server.script["/a.png"] = [Reply(302, {"Location": "/c.png"})]
        server.script["/c.png"] = [Reply(302, {"Location": other.url("/b.png")})]
        assert fetch(server.url("/a.png", userinfo="user:secret")) == b"x"
        assert all("authorization" in request.headers for request in server.requests)
        assert "authorization" not in other.requests[0].headers


def test_jobs_share_no_cookies_and_no_credentials(server: HttpServer) -> None:
    """What one transfer was given, the next on the same connection does not send."""
    server.script["/a.png"] = [Reply(200, {"Set-Cookie": "id=1; Path=/"}, b"x")]

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for userinfo in ("user:secret", ""):
                async with transfers.fetch(server.url("/a.png", userinfo=userinfo)) as download:
                    await download.body()

    asyncio.run(run())
    assert server.connections == 1
    assert "authorization" in server.requests[0].headers
    assert not {"authorization", "cookie"} & set(server.requests[1].headers)


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

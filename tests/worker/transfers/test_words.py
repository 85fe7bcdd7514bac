"""What servers say of a refusal stands in the detail: their words, and nobody's secrets."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace
from pathlib import Path

import pycurl
import pytest

from imgserve.errors import SourceUnreachable, UploadFailed
from imgserve.request import Destination
from imgserve.worker.transfers import Transfers, TransferSettings
from tests.support.http_server import HttpServer, Reply
from tests.support.tls import Certificate, make_certificate
from tests.worker.transfers.peers import LOOPBACK, closed_port
from tests.worker.transfers.running import OPEN, fetch, upload

S3 = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>No right</Message></Error>"
PAGE = (
    b"<html><head><title>507</title><style>a{}</style></head><!-- x --><script>var y</script>"
    b"<body><h1>507 Insufficient Storage</h1><p>The quota of shop&nbsp;7 is used up.</body>"
)


def detail_of(server: HttpServer, reply: Reply, method: str, url: str = "") -> str:
    """Ask for a.png at the server, and return what the error says."""
    server.script["/a.png"] = [reply]
    url = url or server.url("/a.png")
    with pytest.raises((SourceUnreachable, UploadFailed)) as caught:
        if method == "GET":
            fetch(url)
        else:
            upload(Destination(url), b"x")
    return caught.value.detail


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    ("media_type", "body", "said"),
    [
        ("text/html", PAGE, '507 Insufficient Storage ("The quota of shop 7 is used up.")'),
        ("application/xml", S3, '("AccessDenied: No right")'),
        ("application/json", b'{"error": {"code": 1, "message": "No room"}}', '("No room")'),
        ("application/problem+json", b'{"title": "Full", "status": 507}', '("Full")'),
        ("text/plain; charset=latin-1", b"Kein Platz f\xfcr Sie\r\n", '("Kein Platz für Sie")'),
        ("", b"no space", '("no space")'),
    ],
)
def test_the_servers_own_words_stand_in_the_detail(
    server: HttpServer, method: str, media_type: str, body: bytes, said: str
) -> None:
    """A sentence for people, from whatever a server wraps it in."""
    headers = {"Content-Type": media_type} if media_type else {}
    assert said in detail_of(server, Reply(507, headers, body), method)


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "image/png"}, b"\x89PNG picture"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"text", mtime=0)),
        ({}, b"\0\1\2 binary"),
        ({"Content-Type": "text/html"}, b"<html><!-- for ever" + b"x" * 200_000),
        ({"Content-Type": "text/html"}, b"<html><title>507 Insufficient Storage</title>nginx/1.2"),
        ({"Content-Type": "application/json"}, b"[" * 100_000),
        ({"Content-Type": "text/plain; charset=no-such"}, b"x" * 5000),
    ],
)
def test_what_is_no_sentence_is_left_out(
    server: HttpServer, method: str, headers: dict[str, str], body: bytes
) -> None:
    """The status stands alone."""
    detail = detail_of(server, Reply(507, headers, body), method)
    assert detail == "the server answered 507 Insufficient Storage"


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_words_hold_no_secret_and_no_control_character(server: HttpServer, method: str) -> None:
    """A server that repeats what it was asked repeats the credentials and tokens in it."""
    body = (
        "\x1b[31mno t0k3n for bob with s3cret at http://bob:s3cret@h/a.png?sig=t0k3n "
        "GET /a.png?sig=t0k3n, Authorization: Basic Ym9iOnMzY3JldA== session_token=abc123\x07"
    )
    url = server.url("/a.png?sig=t0k3n", userinfo="bob:s3cret")
    reply = Reply(507, {"Content-Type": "text/plain"}, body.encode())
    detail = detail_of(server, reply, method, url)
    assert "no […] for" in detail
    for secret in ("t0k3n", "s3cret", "Ym9iOnMzY3JldA", "abc123", "bob", "\x1b", "\x07"):
        assert secret not in detail


@pytest.mark.parametrize(
    "piece", ["a-", "a.", "token ", "<!--", "<script>", "<", "{", "&amp;", "/?"]
)
def test_words_without_end_are_cut(server: HttpServer, piece: str) -> None:
    """A detail stays a sentence."""
    body = (piece * 50_000).encode()
    kinds = ("text/plain", "text/html", "application/json")
    for kind in kinds:
        assert len(detail_of(server, Reply(507, {"Content-Type": kind}, body), "PUT")) < 300


@pytest.mark.parametrize(
    ("status", "said"),
    [(202, "not there yet"), (204, "without a picture"), (206, "a part of the picture")],
)
def test_success_without_a_picture_is_explained(server: HttpServer, status: int, said: str) -> None:
    """The status alone would read as if all had gone well."""
    assert said in detail_of(server, Reply(status), "GET")


def test_a_certificate_that_is_not_trusted_is_explained(
    tmp_path: Path, certificate: Certificate
) -> None:
    """With what is wrong about it, and the setting that helps."""
    other = tmp_path / "other"
    other.mkdir()
    with HttpServer(certificate=certificate) as server:
        for settings, said in (
            (OPEN, "--ca-file FILE names whom to trust"),
            (replace(OPEN, ca_file=str(make_certificate(other).ca_file)), "--no-verify-tls"),
        ):
            with pytest.raises(SourceUnreachable, match=said) as caught:
                fetch(server.url("/a.png"), settings)
            assert not caught.value.retryable


def test_plain_http_where_tls_was_asked_for_is_explained(server: HttpServer) -> None:
    """OpenSSL says `wrong version number`, which few can read."""
    url = server.url("/a.png").replace("http:", "https:")
    with pytest.raises(SourceUnreachable, match="it may speak plain HTTP"):
        fetch(url)


def test_one_denied_address_of_several_does_not_hide_why_the_others_failed() -> None:
    """Nobody listens at the permitted one, and that may pass; the denied one is told beside it."""
    port = closed_port()
    settings = TransferSettings(allow_networks=LOOPBACK, deny_networks=("127.0.0.3/32",))
    transfers = Transfers(settings)
    base = transfers._engine._base
    names = (pycurl.RESOLVE, [f"two.example:{port}:127.0.0.2,127.0.0.3"])
    transfers._engine._base = replace(base, options=(*base.options, names))

    async def run() -> None:
        async with transfers, transfers.fetch(f"http://two.example:{port}/a.png") as download:
            await download.body()

    with pytest.raises(SourceUnreachable, match=r"refused.*127\.0\.0\.3") as caught:
        asyncio.run(run())
    assert caught.value.retryable

"""Content codings that nobody asked for: every one, chained, cut short, wrong and hostile."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest

from imgserve.errors import SourceTooLarge, SourceUnreachable
from imgserve.worker.transfers.content_encoding import ContentDecoder, zstd
from imgserve.worker.transfers.trouble import Kind, TransferFailed
from tests.support.http_server import HttpServer, Reply
from tests.worker.transfers.running import fetch

# Longer than one step of an unpacker, and with enough in it to be longer than one chunk.
PLAIN = bytes(range(256)) * 1200 + b"end"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "gzip of two members": (
        "gzip",
        lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    ),
    "gzip with padding": ("gzip", lambda data: gzip.compress(data) + bytes(600)),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "brotli": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "zstd of two frames": (
        "zstd",
        lambda data: zstd.compress(data[:1000]) + zstd.compress(data[1000:]),
    ),
    "identity": ("identity", bytes),
    "S3's own": ("aws-chunked", bytes),
    "S3's own and gzip": ("aws-chunked,gzip", gzip.compress),
    "two": ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
    "three": (
        "deflate,zstd , gzip",
        lambda data: gzip.compress(zstd.compress(zlib.compress(data))),
    ),
    "one that is not known": ("compress", bytes),
}


def unpacked(coding: str, data: bytes, *, step: int = 0, limit_bytes: int = 10**6) -> bytes:
    decoder = ContentDecoder([coding], limit_bytes)
    step = step or len(data)
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    whole = b"".join(piece for chunk in chunks for piece in decoder.decode(chunk))
    decoder.finish()
    return whole


@pytest.mark.parametrize("what", PACKERS)
def test_packed_source_is_unpacked(server: HttpServer, what: str) -> None:
    """A source arrives as it was before the server packed it, and nobody asks for packing."""
    coding, pack = PACKERS[what]
    server.script["/a.png"] = [Reply(200, {"Content-Encoding": coding}, pack(PLAIN))]
    assert fetch(server.url("/a.png")) == PLAIN
    assert "accept-encoding" not in server.requests[0].headers


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("what", PACKERS)
def test_chunks_of_any_size_unpack_to_the_same(what: str, step: int) -> None:
    """Where the network cuts a body changes nothing."""
    coding, pack = PACKERS[what]
    assert unpacked(coding, pack(PLAIN), step=step) == PLAIN


@pytest.mark.parametrize("what", ["gzip", "zlib", "raw deflate", "brotli", "zstd", "two"])
def test_limit_holds_for_what_comes_out(server: HttpServer, what: str) -> None:
    """A source of as many bytes as the limit is taken, one byte more is too large."""
    coding, pack = PACKERS[what]
    server.script["/a.png"] = [Reply(200, {"Content-Encoding": coding}, pack(PLAIN))]
    assert fetch(server.url("/a.png"), limit_bytes=len(PLAIN)) == PLAIN
    with pytest.raises(SourceTooLarge):
        fetch(server.url("/a.png"), limit_bytes=len(PLAIN) - 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "br, gzip"])
@pytest.mark.parametrize("body", [b"\x89PNG\r\n\x1a\n" + PLAIN, b"\xff\xd8\xff\xe0" + PLAIN])
def test_source_that_is_not_packed_as_it_says_is_refused(
    server: HttpServer, coding: str, body: bytes
) -> None:
    """As in browsers; the detail says what the server said."""
    server.script["/a.png"] = [Reply(200, {"Content-Encoding": coding}, body)]
    with pytest.raises(SourceUnreachable, match=r"says Content-Encoding (gzip|deflate|br|zstd)"):
        fetch(server.url("/a.png"))


@pytest.mark.parametrize("what", ["gzip", "zlib", "raw deflate", "brotli", "zstd", "two", "three"])
def test_packed_source_that_breaks_off_is_no_source(server: HttpServer, what: str) -> None:
    """The end of the answer is not the end of what was packed: trying again may bring the rest."""
    coding, pack = PACKERS[what]
    server.script["/a.png"] = [Reply(200, {"Content-Encoding": coding}, pack(PLAIN)[:-9])]
    with pytest.raises(SourceUnreachable, match="breaks off") as caught:
        fetch(server.url("/a.png"))
    assert caught.value.retryable


def test_codings_of_several_headers_are_one_list(server: HttpServer) -> None:
    """RFC 9110, 5.3: a header that comes twice is the list of both."""
    decoder = ContentDecoder(["gzip", "br"], 10**6)
    assert b"".join(decoder.decode(brotli.compress(gzip.compress(PLAIN)))) == PLAIN


def test_more_codings_than_anybody_needs_are_refused(server: HttpServer) -> None:
    """Each layer costs as much as a whole source."""
    body = PLAIN
    for _ in range(4):
        body = gzip.compress(body)
    server.script["/a.png"] = [Reply(200, {"Content-Encoding": "gzip, gzip, gzip, gzip"}, body)]
    with pytest.raises(SourceUnreachable, match="4 content codings; at most 3"):
        fetch(server.url("/a.png"))


@pytest.mark.parametrize("what", ["gzip", "zlib", "brotli", "zstd"])
def test_bomb_ends_at_the_limit(what: str) -> None:
    """No more than the limit is unpacked, however little was sent."""
    coding, pack = PACKERS[what]
    decoder = ContentDecoder([coding], 10**6)
    out_bytes = 0
    with pytest.raises(TransferFailed) as caught:
        for piece in decoder.decode(pack(bytes(50_000_000))):
            out_bytes += len(piece)
    assert caught.value.kind is Kind.TOO_LARGE
    assert out_bytes <= 10**6


def test_bomb_inside_of_a_layer_ends_at_the_limit() -> None:
    """What is unpacked in between counts, though nothing of it comes out."""
    nothing = gzip.compress(b"") * 1_000_000
    decoder = ContentDecoder(["gzip", "zstd"], 10**6)
    with pytest.raises(TransferFailed) as caught:
        list(decoder.decode(zstd.compress(nothing)))
    assert caught.value.kind is Kind.TOO_LARGE


def test_window_of_zstd_is_bounded() -> None:
    """A frame that wants 128 MB for its window gets nothing."""
    greedy = zstd.compress(PLAIN * 40, options={zstd.CompressionParameter.window_log: 27})
    with pytest.raises(TransferFailed, match="zstd"):
        unpacked("zstd", greedy, limit_bytes=10**9)


def test_empty_answer_with_a_coding_is_empty(server: HttpServer) -> None:
    """There is nothing to unpack."""
    server.script["/a.png"] = [Reply(200, {"Content-Encoding": "gzip"}, b"")]
    assert fetch(server.url("/a.png")) == b""

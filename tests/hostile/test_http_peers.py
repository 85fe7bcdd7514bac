"""HTTP servers that lie, stall, flood and break off, as sources and as destinations."""

from __future__ import annotations

import gzip
import itertools

import brotli
import pytest

from tests.hostile.conftest import Hostile
from tests.support import images
from tests.support.hostile_servers import Behave, HostileServer, Peer

PHOTO = images.png(200, 150)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
ZEROS = b"\0" * 65536
# Over the limit of a source, behind a head that is good.
BOMB = PHOTO + bytes(100_000_000)


def packed_twice(data: bytes) -> bytes:
    return gzip.compress(gzip.compress(data, 1))


def answering(*parts: bytes, then: Behave = lambda _: None) -> Behave:
    """Send these bytes in answer to a request, then do something else."""

    def behave(peer: Peer) -> None:
        peer.request()
        for part in parts:
            peer.send(part)
        then(peer)

    return behave


def flood(peer: Peer) -> None:
    while not peer.stopping.is_set():
        peer.send(ZEROS)


def flood_headers(peer: Peer) -> None:
    for number in itertools.count():
        peer.send(b"X-%d: %s\r\n" % (number, b"x" * 1000))


def flood_informal(peer: Peer) -> None:
    while not peer.stopping.is_set():
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")


def trickle(peer: Peer) -> None:
    for byte in itertools.cycle(b"\0"):
        peer.send(bytes((byte,)))
        if not peer.wait(0.05):
            return


def hold(peer: Peer) -> None:
    peer.wait()


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SOURCES: dict[str, tuple[Behave, set[int], str]] = {
    "says nothing": (answering(then=hold), {201}, "slow"),
    "closes at once": (answering(), {201}, "without an answer"),
    "resets at once": (answering(then=Peer.reset), {201}, "broke|closed"),
    "stalls in its headers": (answering(OK, then=hold), {201}, "slow"),
    "floods headers": (answering(OK, then=flood_headers), {201}, ""),
    "floods informal answers": (answering(then=flood_informal), {201}, ""),
    "sends no HTTP": (answering(b"\x16\x03\x01 what?\r\n\r\n"), {201}, ""),
    "sends garbage in its status": (answering(b"HTTP/1.1 xyz OK\r\n\r\n"), {201}, ""),
    "sends a status of ten digits": (answering(b"HTTP/1.1 2000000000 OK\r\n\r\n"), {201, 202}, ""),
    "has an endless body": (answering(OK + b"\r\n", PHOTO, then=flood), {201, 206, 403}, ""),
    "has an endless body that is no picture": (answering(OK + b"\r\n", then=flood), {202}, ""),
    "has endless chunks": (
        answering(CHUNKED + b"ffffffff\r\n" + PHOTO, then=flood),
        {206, 403},
        "",
    ),
    "has a chunk of a broken size": (answering(CHUNKED + b"zz\r\n" + PHOTO), {201, 403}, ""),
    "trickles": (answering(OK + b"\r\n", then=trickle), {201}, "slow"),
    "trickles after its head": (answering(OK + b"\r\n", PHOTO[:5000], then=trickle), {403}, "slow"),
    "promises too much": (
        answering(OK + b"Content-Length: 99999\r\n\r\n" + PHOTO),
        {403},
        "closed the connection before",
    ),
    "promises too little": (
        answering(OK + b"Content-Length: 5000\r\n\r\n" + PHOTO),
        {401},
        "",
    ),
    "promises a petabyte": (
        answering(OK + b"Content-Length: 1000000000000000\r\n\r\n" + PHOTO),
        {206},
        "1000000000000000 bytes",
    ),
    "promises less than nothing": (
        answering(OK + b"Content-Length: -5\r\n\r\n" + PHOTO),
        {201},
        "",
    ),
    "resets in the middle": (answering(OK + b"\r\n", PHOTO[:5000], then=Peer.reset), {403}, ""),
    "says that its picture is packed": (
        answering(OK + b"Content-Encoding: gzip\r\n\r\n", PHOTO),
        {201},
        "Content-Encoding gzip",
    ),
    "sends a gzip bomb": (
        answering(OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(BOMB, 1)),
        {206},
        "limit is 100000000 bytes",
    ),
    "sends a brotli bomb": (
        answering(OK + b"Content-Encoding: br\r\n\r\n", brotli.compress(BOMB, quality=1)),
        {206},
        "limit is 100000000 bytes",
    ),
    "sends a bomb in a bomb": (
        answering(OK + b"Content-Encoding: gzip, gzip\r\n\r\n", packed_twice(BOMB)),
        {206},
        "limit is 100000000 bytes",
    ),
    "wants a password": (
        answering(b"HTTP/1.1 401 no\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"),
        {201},
        "401",
    ),
    "sends an endless error": (answering(b"HTTP/1.1 404 no\r\n\r\n", then=flood), {201}, "404"),
    "wants to switch protocols": (
        answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", then=hold),
        {201},
        "",
    ),
}


@pytest.mark.parametrize("what", SOURCES)
def test_source_that_misbehaves_is_refused(hostile: Hostile, what: str):
    """The job ends with a code of its own, in time."""
    behave, codes, detail = SOURCES[what]
    with HostileServer(behave) as server:
        document = hostile.source(server.url("/a.png"))
    assert document["code"] in codes, document
    assert detail.split("|")[0] in document["detail"] or any(
        word in document["detail"] for word in detail.split("|")
    ), document


def test_picture_that_was_packed_is_done(hostile: Hostile):
    """Nobody asked for packing, but the header says how to undo it."""
    with HostileServer(
        answering(OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(PHOTO))
    ) as server:
        document = hostile.source(server.url("/a.png"))
    assert document["state"] == "done", document


def test_connection_that_is_never_accepted_is_refused(hostile: Hostile):
    """A full backlog looks like a host that is not there."""
    with HostileServer(hold) as server:
        document = hostile.source(server.url("/a.png").replace(str(server.port), "9"))
    assert document["code"] == 201


DESTINATIONS: dict[str, tuple[Behave, int]] = {
    "reads nothing": (hold, 205),
    "closes at once": (answering(), 205),
    "resets": (answering(then=Peer.reset), 205),
    "floods headers": (answering(b"HTTP/1.1 200 OK\r\n", then=flood_headers), 205),
    "redirects": (
        answering(b"HTTP/1.1 303 See\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"),
        205,
    ),
    "answers without end": (
        answering(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", then=flood),
        205,
    ),
}


@pytest.mark.parametrize("args", [{"method": "PUT"}, {"field_name": "f"}], ids=["PUT", "POST"])
@pytest.mark.parametrize("what", DESTINATIONS)
def test_destination_that_misbehaves_is_refused(hostile: Hostile, what: str, args: dict[str, str]):
    """No job is accepted that has no placeholder in place."""
    behave, code = DESTINATIONS[what]
    hostile.web.files["/good.png"] = PHOTO
    with HostileServer(behave) as server:
        url = server.url("/page:up.png" if "field_name" in args else "/up.png")
        document = hostile.end(hostile.ask(hostile.web.url("/good.png"), url, **args))
    assert document["code"] == code, document


def test_form_page_that_is_a_bomb_costs_nothing(hostile: Hostile):
    """Only the beginning of a page is looked at for forms, however deep and long it is."""
    page = b"<form method=post>" * 20_000 + b"<input type=file name=f>" + b"<div>" * 100_000
    hostile.web.files["/bomb"] = page
    hostile.web.content_types["/bomb"] = "text/html"
    hostile.web.files["/good.png"] = PHOTO
    destination = hostile.web.url("/bomb:up.png")
    document = hostile.end(hostile.ask(hostile.web.url("/good.png"), destination, field_name="f"))
    assert document["code"] == 205, document

"""FTP servers that lie, stall, flood and break off."""

from __future__ import annotations

import itertools

import pytest

from tests.hostile.conftest import Hostile
from tests.support import images
from tests.support.hostile_servers import FtpScript, HostileServer, Peer

PHOTO = images.png(200, 150)


def stall(peer: Peer) -> bool:
    return peer.wait()


def greet_for_ever(peer: Peer) -> bool:
    while not peer.stopping.is_set():
        peer.send(b"230-and another thing\r\n" * 1000)
    return False


def one_long_line(peer: Peer) -> bool:
    while not peer.stopping.is_set():
        peer.send(b"2" * 65536)
    return False


def flood(peer: Peer, _: bytes) -> None:
    while not peer.stopping.is_set():
        peer.send(b"\0" * 65536)


def trickle(peer: Peer, body: bytes) -> None:
    for byte in itertools.islice(body, 10_000):
        peer.send(bytes((byte,)))
        if not peer.wait(0.05):
            return


def half(peer: Peer, body: bytes) -> None:
    peer.send(body[: len(body) // 2])


def hold(peer: Peer, _: bytes) -> None:
    peer.wait()


SOURCES: dict[str, tuple[FtpScript, set[int]]] = {
    "says nothing": (FtpScript(greeting=b""), {201}),
    "greets in HTTP": (FtpScript(greeting=b"HTTP/1.1 200 OK\r\n\r\n"), {201}),
    "greets without end": (FtpScript(before={"USER": greet_for_ever}), {201}),
    "says one endless line": (FtpScript(before={"USER": one_long_line}), {201}),
    "stalls at the login": (FtpScript(before={"PASS": stall}), {201}),
    "hangs up at RETR": (FtpScript(before={"RETR": lambda _: False}), {201}),
    "stalls at RETR": (FtpScript(before={"RETR": stall}), {201}),
    "names a port where nobody is": (
        FtpScript(replies={"EPSV": b"229 ok (|||1|)\r\n", "PASV": b"500 no\r\n"}),
        {201},
    ),
    "names a port over 65535": (
        FtpScript(replies={"EPSV": b"229 ok (|||99999|)\r\n", "PASV": b"227 (1,2,3,4,999,9)\r\n"}),
        {201},
    ),
    "promises a petabyte": (
        FtpScript(PHOTO, replies={"SIZE": b"213 1000000000000000\r\n"}),
        {201, 206},
    ),
    "promises less than it sends": (FtpScript(PHOTO, replies={"SIZE": b"213 10\r\n"}), {201, 202}),
    "promises less than nothing": (FtpScript(PHOTO, replies={"SIZE": b"213 -1\r\n"}), {0, 202}),
    "sends without end": (FtpScript(transfer=flood), {201, 202, 206}),
    "trickles": (FtpScript(PHOTO, transfer=trickle), {201}),
    "sends nothing": (FtpScript(transfer=hold), {201}),
    "sends half and says done": (FtpScript(PHOTO, transfer=half), {401, 403}),
    "speaks TLS and then does not": (FtpScript(replies={"AUTH": b"234 go on\r\n"}), {201}),
}


@pytest.mark.parametrize("what", SOURCES)
def test_source_that_misbehaves_is_refused(hostile: Hostile, what: str):
    """The job ends with a code of its own, in time; only a good picture is done."""
    script, codes = SOURCES[what]
    with HostileServer(script) as server:
        document = hostile.source(server.url("/a.png", "ftp", "user:word@"))
    assert (document["code"] or 0) in codes, document


DESTINATIONS: dict[str, FtpScript] = {
    "takes nothing": FtpScript(transfer=hold),
    "never says done": FtpScript(before={"RNFR": stall}),
    "makes no folders": FtpScript(replies={"CWD": b"550 no\r\n", "MKD": b"550 no\r\n"}),
    "makes folders without end": FtpScript(replies={"CWD": b"550 no\r\n"}),
    "refuses each name": FtpScript(replies={"RNFR": b"550 no\r\n", "STOR": b"553 no\r\n"}),
    "hangs up at the end": FtpScript(before={"RNTO": lambda _: False}),
}


@pytest.mark.parametrize("what", DESTINATIONS)
def test_destination_that_misbehaves_is_refused(hostile: Hostile, what: str):
    """No job is accepted that has no placeholder in place."""
    hostile.web.files["/good.png"] = PHOTO
    with HostileServer(DESTINATIONS[what]) as server:
        url = server.url("/a/b/up.png", "ftp", "user:word@")
        document = hostile.end(hostile.ask(hostile.web.url("/good.png"), url))
    assert document["code"] == 205, document


def test_servers_that_hold_every_thread_do_not_stop_http(hostile: Hostile):
    """FTP has threads of its own; while all of them wait, other jobs go on."""
    with HostileServer(FtpScript(greeting=b"")) as server:
        links = []
        for number in range(14):
            url = server.url(f"/{number}.png", "ftp", f"user{number}:word@")
            answer = hostile.service.post(hostile.ask(url), "/jobs")
            links.append(answer.document["links"]["self"])
        hostile.assert_plain_job()
        for link in links:
            assert hostile.service.ended(link)["code"] == 201

"""Servers of sources and destinations, and URLs that lead to where they should not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from scripts.redteam_lib.attack import Arena, Result, attack
from scripts.redteam_lib.attacks.tokens import SMALL, resize
from tests.support import images
from tests.support.hostile_servers import HostileServer, Peer, Trap
from tests.support.http_server import HttpServer, Reply
from tests.support.service import Service

OPEN_HOST: Final = "127.0.0.2"

# Services that clouds offer to their own machines alone; each has credentials or secrets.
METADATA: Final = (
    *("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16"),
    *("[fd00:ec2::254]", "[fd00:ec2::253]", "[fd00:ec2::123]", "[fd20:ce::254]"),
    *("[::ffff:168.63.129.16]", "[64:ff9b::a9fe:a9fe]", "168.63.129.16.", "0xa83f8110"),
)


def noise(side_px: int) -> bytes:
    """A PNG that stays large when it is made a little smaller."""
    rows = b"".join(b"\0" + os.urandom(3 * side_px) for _ in range(side_px))
    return images.raw_png(side_px, side_px, depth=8, color=2, rows=rows)


@contextmanager
def service_of(arena: Arena) -> Iterator[tuple[Service, HttpServer]]:
    """A service that may reach one address of loopback, and a web server there."""
    folder = arena.folder / "service"
    flags = (*SMALL, "--connect-timeout-s", "2", "--upload-timeout-s", "5")
    with (
        HttpServer(host=OPEN_HOST) as web,
        Service(folder, *flags, network=f"{OPEN_HOST}/32") as service,
    ):
        web.files["/photo.png"] = images.png()
        yield service, web


@attack("a client", "no address of a cloud's own services is connected to by default")
def cloud_metadata(arena: Arena) -> Result:
    """Name them as sources and destinations, and send a redirect there."""
    reached = []
    with service_of(arena) as (service, web):
        for host in METADATA:
            web.script["/moved.png"] = [Reply(302, {"Location": f"http://{host}/latest/a.png"})]
            for code, src_url, dst_url in (
                (301, f"http://{host}/latest/a.png", web.url("/out.png")),
                (302, web.url("/photo.png"), f"http://{host}/a.png"),
                (301, web.url("/moved.png"), web.url("/out.png")),
            ):
                document = service.submit(resize(src_url, dst_url))
                if document["code"] not in (code, 116):
                    reached.append(f"{host} ({document['code']})")
    return Result(not reached, f"{len(reached)} of {3 * len(METADATA)} not refused {reached[:3]}")


@attack("a client", "nothing but what is opened is connected to, however it is written")
def loopback_in_disguise(arena: Arena) -> Result:
    """Spell a denied loopback address in ways that resolvers and parsers read differently."""
    hosts = (
        *("127.0.0.3", "127.3", "2130706435", "0x7f000003", "0177.0.0.3", "%31%32%37.0.0.3"),
        *("127。0。0。3", "①②⑦.0.0.3", "[::ffff:7f00:3]", "[64:ff9b::127.0.0.3]", "[::]", "0"),
        *("localhost", f"{OPEN_HOST}:80@127.0.0.3", "127.0.0.3:1@localhost"),
    )
    with service_of(arena) as (service, web), Trap() as trap:
        for host in hosts:
            for scheme in ("http", "ftp"):
                service.submit(resize(f"{scheme}://{host}:{trap.port}/a.png", web.url("/o.png")))
        touched = [address for address in trap.touched if address != OPEN_HOST]
    return Result(not touched, f"{len(touched)} of {2 * len(hosts)} spellings were connected to")


@attack("a destination's server", "a result counts only when all of it was sent")
def success_before_the_end(arena: Arena) -> Result:
    """Answer 200 after a part of the body, and close."""

    def behave(peer: Peer) -> None:
        peer.request()
        peer.connection.recv(65_000)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.wait(0.3)
        peer.reset()

    with service_of(arena) as (service, web), HostileServer(behave) as server:
        web.files["/large.png"] = noise(1200)
        request = resize(web.url("/large.png"), f"http://{OPEN_HOST}:{server.port}/out.png")
        request["args"] |= {"width": 1100, "height": 1100}
        document = service.submit(request)
    return Result(document["state"] != "done", f"the job is {document['state']}")


@attack("a source's server", "no answer breaks the worker; each job ends with its code")
def broken_answers(arena: Arena) -> Result:
    """Status lines, headers and lengths that no honest server sends."""
    answers = (
        b"HTTP/1.1 200 OK\r\nHTTP/x: y\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/9.9 999 \xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 302 Found\r\nLocation: \r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"\x00" * 100,
        b"",
    )
    wrong = []
    with service_of(arena) as (service, web):
        for answer in answers:

            def behave(peer: Peer, answer: bytes = answer) -> None:
                peer.request()
                peer.send(answer)

            with HostileServer(behave) as server:
                source = f"http://{OPEN_HOST}:{server.port}/a.png"
                document = service.submit(resize(source, web.url("/out.png")))
            if document["state"] == "done" or not document["detail"]:
                wrong.append(answer[:40])
        plain = service.submit(resize(web.url("/photo.png"), web.url("/plain.png")))["state"]
        unexpected = "unexpected error" in service.log(10_000)
    held = not wrong and plain == "done" and not unexpected
    seen = f"{len(answers) - len(wrong)} of {len(answers)} ended with a code and a sentence"
    return Result(held, seen + ("; the worker met an unexpected error" if unexpected else ""))

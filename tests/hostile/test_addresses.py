"""Addresses that must not be reached: spelled in every way, behind names and redirects."""

from __future__ import annotations

import pytest

from tests.hostile.conftest import OPEN_HOST, Hostile
from tests.support import images
from tests.support.hostile_servers import FtpScript, HostileServer
from tests.support.http_server import Reply

PHOTO = images.png(200, 150)
# Ways to write 127.0.0.3, the same inside IPv6, and other ways to this machine.
SPELLINGS = (
    "127.0.0.3",
    "127.0.0.3.",
    "127.3",
    "127.0.3",
    "2130706435",
    "0x7f000003",
    "0x7f.0x0.0x0.0x3",
    "0177.0.0.3",
    "017700000003",
    "%31%32%37.0.0.3",
    "127%2e0%2e0%2e3",
    "127。0。0。3",
    "①②⑦.0.0.3",
    "１２７.0.0.3",
    "[::ffff:127.0.0.3]",
    "[::ffff:7f00:3]",
    "[0:0:0:0:0:ffff:127.0.0.3]",
    "[::127.0.0.3]",
    "[64:ff9b::127.0.0.3]",
    "[2002:7f00:3::]",
    "[::1]",
    "[::1%25lo]",
    "[::]",
    "0",
    "0.0.0.0",  # noqa: S104 (nothing is bound)
    "localhost",
    "LOCALHOST.",
    "ip6-localhost",
    "169.254.169.254",
    "[fe80::1]",
    "[fd00:ec2::254]",
    f"{OPEN_HOST}:80@127.0.0.3",
    f"127.0.0.3:1@{OPEN_HOST}.nip.invalid",
)
# What no resolver knows is refused as such; what has no route is unreachable.
REFUSED = {116, 201, 301}


@pytest.mark.parametrize("scheme", ["http", "ftp"])
@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_a_source_reaches_a_denied_address(hostile: Hostile, host: str, scheme: str):
    """The address that is connected to is judged, not the text."""
    document = hostile.source(f"{scheme}://{host}:{hostile.trap.port}/a.png")
    assert document["code"] in REFUSED, document


@pytest.mark.parametrize("host", SPELLINGS[:12])
def test_plain_spellings_are_refused_by_the_rule_that_denies_them(hostile: Hostile, host: str):
    """Loopback in any of curl's spellings is code 301, with the rule's name."""
    document = hostile.source(f"http://{host}:{hostile.trap.port}/a.png")
    assert document["code"] == 301, document
    assert "loopback" in document["detail"]
    assert "--allow-network" in document["detail"]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_a_destination_reaches_a_denied_address(hostile: Hostile, host: str):
    """Destinations are judged like sources."""
    hostile.web.files["/good.png"] = PHOTO
    source = hostile.web.url("/good.png")
    port = hostile.trap.port
    document = hostile.end(hostile.ask(source, f"http://{host}:{port}/up.png", method="PUT"))
    assert document["code"] in {116, 205, 302}, document
    document = hostile.end(hostile.ask(source, f"http://{host}:{port}/p:up.png", field_name="f"))
    assert document["code"] in {116, 205, 302}, document


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.3:{port}/a.png",
        "//127.0.0.3:{port}/a.png",
        "http://2130706435:{port}/a.png",
        "http://[::ffff:127.0.0.3]:{port}/a.png",
        "http://localhost:{port}/a.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.2:80@127.0.0.3:{port}/a.png",
        "http:\\\\127.0.0.3:{port}/a.png",
        "http://127.0.0.3:{port}\\@127.0.0.2/a.png",
        "http://127.0.0.2#@127.0.0.3:{port}/",
        "file:///etc/passwd",
        "ftp://127.0.0.3:{port}/a.png",
        "gopher://127.0.0.3:{port}/_x",
        "dict://127.0.0.3:{port}/d:x",
        "data:image/png;base64,AAAA",
    ],
)
def test_no_redirect_leads_to_a_denied_address(hostile: Hostile, location: str, status: int):
    """Each hop is judged; other schemes than http and https are not followed."""
    target = location.format(port=hostile.trap.port)
    hostile.web.script["/hop.png"] = [Reply(status, {"Location": target})]
    document = hostile.source(hostile.web.url("/hop.png"))
    assert document["code"] in {201, 301}, document


def test_endless_redirects_end(hostile: Hostile):
    """A loop is left after five hops, a chain that grows too."""
    hostile.web.script["/loop.png"] = [Reply(302, {"Location": "/loop.png"})]
    before = len(hostile.web.requests)
    document = hostile.source(hostile.web.url("/loop.png"))
    assert document["code"] == 201, document
    assert "redirects more often" in document["detail"]
    assert len(hostile.web.requests) == before + 6


@pytest.mark.parametrize("location", ["/" + "x" * 90_000, "http://" + "a." * 30_000 + "/", "\x01"])
def test_redirect_that_is_no_url_ends(hostile: Hostile, location: str):
    """An absurd Location is the end of the fetch."""
    hostile.web.script["/odd.png"] = [Reply(302, {"Location": location}), Reply(404)]
    assert hostile.source(hostile.web.url("/odd.png"))["code"] in {201, 301}


@pytest.mark.parametrize(
    "action",
    ["http://127.0.0.3:{port}/up", "http://2130706435:{port}/", "file:///tmp/x", "javascript:x"],
)
def test_no_form_posts_to_a_denied_address(hostile: Hostile, action: str):
    """A page cannot have its form posted where a destination could not be."""
    hostile.web.upload_page("/page", action.format(port=hostile.trap.port), "f")
    hostile.web.files["/good.png"] = PHOTO
    request = hostile.ask(
        hostile.web.url("/good.png"), hostile.web.url("/page:up.png"), field_name="f"
    )
    assert hostile.end(request)["code"] in {205, 302}


@pytest.mark.parametrize("command", ["EPSV", "PASV"])
def test_ftp_server_cannot_name_a_third_address(hostile: Hostile, command: str):
    """Data connections go to the server itself, whatever it says."""
    port = hostile.trap.port
    pasv = f"227 ok (127,0,0,3,{port >> 8},{port & 255})\r\n".encode()
    replies = {"PASV": pasv, "EPSV": b"500 no\r\n"}
    if command == "EPSV":
        replies = {"EPSV": f"229 ok (|1|127.0.0.3|{port}|)\r\n".encode()}
    with HostileServer(FtpScript(PHOTO, replies=replies)) as server:
        document = hostile.source(server.url("/a.png", "ftp", "u:p@"))
        assert document["code"] == 201, document
        hostile.web.files["/good.png"] = PHOTO
        up = hostile.ask(hostile.web.url("/good.png"), server.url("/u.png", "ftp", "u:p@"))
        assert hostile.end(up)["code"] == 205


def test_the_trap_hears_what_reaches_it(hostile: Hostile):
    """The address that is open is reached, so that the silence of the others means something."""
    before = len(hostile.trap.touched)
    document = hostile.source(f"http://{OPEN_HOST}:{hostile.trap.port}/a.png")
    assert document["code"] == 201, document
    assert hostile.trap.touched[before:] == [OPEN_HOST]

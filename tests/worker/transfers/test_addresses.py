"""The address policy where connections are made: every hop, kept connections, both ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from imgserve.errors import DestinationForbidden, SourceForbidden, SourceUnreachable
from imgserve.request import Destination, Method
from imgserve.worker.transfers import Transfers, TransferSettings
from tests.support.ftp_server import FtpServer
from tests.support.http_server import HttpServer, Reply
from tests.worker.transfers.peers import closed_port
from tests.worker.transfers.running import OPEN, fetch, upload

CLOSED = TransferSettings()
ONLY_V4 = TransferSettings(allow_networks=("127.0.0.1/32",))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1"])
def test_a_denied_source_is_never_connected_to(server: HttpServer, host: str) -> None:
    """Loopback in any spelling is 301, with the address and the flag named."""
    server.files["/a.png"] = b"secret"
    with pytest.raises(SourceForbidden, match=r"loopback.*--allow-network"):
        fetch(server.url("/a.png", host=host), CLOSED)
    assert server.connections == 0


@pytest.mark.parametrize("method", list(Method))
def test_a_denied_destination_is_never_connected_to(server: HttpServer, method: Method) -> None:
    """An upload to a denied address is 302."""
    destination = Destination(server.url("/a.png"), method, "field", "a.png")
    with pytest.raises(DestinationForbidden, match=r"127\.0\.0\.1.*--allow-network"):
        upload(destination, b"x", CLOSED)
    assert server.connections == 0


def test_a_denied_ftp_server_is_never_connected_to(tmp_path: Path) -> None:
    """FTP is held to the same policy, at both ends."""
    with FtpServer(tmp_path) as server:
        with pytest.raises(SourceForbidden):
            fetch(server.url("/a.png"), CLOSED)
        with pytest.raises(DestinationForbidden):
            upload(Destination(server.url("/a.png")), b"x", CLOSED)
        assert server.connections == 0


def test_a_redirect_to_a_denied_address_is_refused(server: HttpServer) -> None:
    """A permitted server cannot send us to a denied one."""
    with HttpServer(host="127.0.0.2") as inner:
        inner.files["/a.png"] = b"secret"
        server.script["/a.png"] = [Reply(302, {"Location": inner.url("/a.png")})]
        with pytest.raises(SourceForbidden, match=r"127\.0\.0\.2"):
            fetch(server.url("/a.png"), ONLY_V4)
        assert inner.connections == 0


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://h/a"])
def test_a_redirect_to_another_kind_of_scheme_is_refused(server: HttpServer, location: str) -> None:
    """Redirects lead to http and https only."""
    server.script["/a.png"] = [Reply(302, {"Location": location})]
    with pytest.raises(SourceForbidden, match="redirects to a scheme"):
        fetch(server.url("/a.png"))


def test_a_kept_connection_is_judged_again(server: HttpServer) -> None:
    """Curl opens no socket for a kept connection; the policy is asked all the same."""
    server.files["/a.png"] = b"x"

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            async with transfers.fetch(server.url("/a.png")) as download:
                await download.body()
            engine = transfers._engine
            closed = replace(engine._base.rules, allow=())
            engine._base = replace(engine._base, rules=closed)
            async with transfers.fetch(server.url("/a.png")) as download:
                await download.body()

    with pytest.raises(SourceForbidden, match="loopback"):
        asyncio.run(run())
    assert server.connections == 1
    assert len(server.requests) == 1


def test_a_network_closed_by_the_operator_is_refused(server: HttpServer) -> None:
    """--deny-network wins over --allow-network."""
    settings = replace(OPEN, deny_networks=("127.0.0.0/8",))
    with pytest.raises(SourceForbidden, match=r"127\.0\.0\.0/8"):
        fetch(server.url("/a.png"), settings)


def test_the_environment_names_no_proxy(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy from the environment would connect in our place, where no policy is."""
    server.files["/a.png"] = b"x"
    for name in ("http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    assert fetch(server.url("/a.png")) == b"x"


def test_an_unknown_name_is_unreachable() -> None:
    """A host name that does not resolve is 201, and the detail names it."""
    with pytest.raises(SourceUnreachable, match=r"no-such-host\.invalid does not resolve"):
        fetch("http://no-such-host.invalid/a.png")


@pytest.mark.parametrize("url", ["gopher://127.0.0.1/a", "dict://127.0.0.1/a", "scp://h/a"])
def test_other_schemes_are_forbidden(url: str) -> None:
    """Curl knows more schemes than the contract; they are refused by name."""
    with pytest.raises(SourceForbidden, match="http, https, ftp, ftps, file"):
        fetch(url)

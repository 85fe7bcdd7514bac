"""FTP: the rename, its refusals, TLS, and servers that let one wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imgserve.errors import SourceUnreachable, UploadFailed
from imgserve.request import Destination
from imgserve.worker.transfers import Transfers
from imgserve.worker.transfers import ftp as module
from tests.support.ftp_server import FtpServer
from tests.support.http_server import HttpServer
from tests.support.tls import Certificate
from tests.worker.transfers.running import OPEN, fetch, upload

BODY = bytes(range(256)) * 500


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[FtpServer]:
    with FtpServer(tmp_path) as server:
        yield server


def test_a_result_appears_by_its_rename(ftp: FtpServer) -> None:
    """The bytes go under a temporary name in the same folder."""
    upload(Destination(ftp.url("/x/a.png")), BODY)
    (stored,) = ftp.said("STOR")
    assert Path(stored).name.startswith(".imgserve-")
    assert [Path(name).name for name in ftp.said("RNTO")] == ["a.png"]
    assert (ftp.root / "x" / "a.png").read_bytes() == BODY


def test_a_server_that_renames_over_nothing_is_served(tmp_path: Path) -> None:
    """Where the rename meets an existing file, that is deleted first."""
    with FtpServer(tmp_path, overwrites=False) as ftp:
        for body in (b"placeholder", BODY):
            upload(Destination(ftp.url("/x/a.png")), body)
        assert len(ftp.said("DELE")) == 1
    assert (tmp_path / "x" / "a.png").read_bytes() == BODY
    assert len(list((tmp_path / "x").iterdir())) == 1


def test_a_server_that_does_not_rename_is_served(ftp: FtpServer) -> None:
    """Where RNFR is refused the file is stored under its own name, and nothing else stays."""
    ftp.refuse["RNFR"] = "502 not implemented"
    (ftp.root / "a.png").write_bytes(b"placeholder")
    upload(Destination(ftp.url("/a.png")), BODY)
    assert (ftp.root / "a.png").read_bytes() == BODY
    assert len(list(ftp.root.iterdir())) == 1


def test_a_server_that_refuses_temporary_names_is_served(ftp: FtpServer) -> None:
    """Where a pattern forbids such names the file is stored under its own, from then on at once."""
    ftp.refuse_patterns.append("*.part")

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for name in ("a.png", "b.png"):
                url = ftp.url(f"/{name}")
                await transfers.upload(Destination(url), BODY, content_type="image/png")

    asyncio.run(run())
    assert {file.name: file.read_bytes() for file in ftp.root.iterdir()} == {
        "a.png": BODY,
        "b.png": BODY,
    }
    assert len(ftp.said("STOR")) == 3


def test_a_refused_folder_is_no_refused_name(ftp: FtpServer) -> None:
    """Where the final name is refused, too, its refusal is reported and nothing stays."""
    ftp.refuse_patterns += ["*.part", "*.png"]
    with pytest.raises(UploadFailed, match="553 this name is refused"):
        upload(Destination(ftp.url("/a.png")), BODY)
    assert list(ftp.root.iterdir()) == []


def test_a_server_without_rename_and_delete_gets_one_temporary_file(ftp: FtpServer) -> None:
    """What cannot be deleted is made once and not by every upload."""
    ftp.refuse |= {"RNFR": "550 not allowed", "DELE": "550 not allowed"}

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for body in (b"placeholder", BODY, BODY):
                url = ftp.url("/a.png")
                await transfers.upload(Destination(url), body, content_type="image/png")

    asyncio.run(run())
    assert (ftp.root / "a.png").read_bytes() == BODY
    assert len(list(ftp.root.glob(".imgserve-*"))) == 1


@pytest.mark.parametrize(("reply", "retryable"), [("452 busy disk", True), ("552 quota", False)])
@pytest.mark.parametrize("command", ["STOR", "RNTO"])
def test_replies_of_the_fours_are_worth_a_retry(
    ftp: FtpServer, command: str, reply: str, retryable: bool
) -> None:
    """FTP 4xx is transient, 5xx is not; the old file stays where the upload failed."""
    ftp.refuse[command] = reply
    (ftp.root / "b.png").write_bytes(b"old")
    with pytest.raises(UploadFailed, match=reply[:3]) as caught:
        upload(Destination(ftp.url("/a.png")), BODY)
    assert caught.value.retryable is retryable
    assert [file.name for file in ftp.root.iterdir()] == ["b.png"]


def test_a_detail_quotes_the_servers_own_words(ftp: FtpServer) -> None:
    """Whoever reads the detail need not guess what the server meant."""
    ftp.refuse["STOR"] = "552 quota of\x1b shop exceeded"
    with pytest.raises(UploadFailed, match=r"552 quota of shop exceeded"):
        upload(Destination(ftp.url("/a.png")), BODY)


@pytest.mark.parametrize(
    ("reply", "retryable", "words"),
    [
        ("530 Sorry, the maximum number of clients is connected", True, "takes no more"),
        ("421 Service not available", True, "takes no more"),
        ("530 Login incorrect.", False, "refused the user name or password"),
    ],
)
def test_a_full_server_is_no_wrong_password(
    ftp: FtpServer, monkeypatch: pytest.MonkeyPatch, reply: str, retryable: bool, words: str
) -> None:
    """A limit of connections passes by itself; a password does not become right."""
    monkeypatch.setattr(module, "_REFUSED_S", 0.3)
    ftp.refuse["PASS"] = reply
    with pytest.raises(SourceUnreachable, match=words) as caught:
        fetch(ftp.url("/a.png"))
    assert caught.value.retryable is retryable
    assert reply in str(caught.value.detail)


def test_an_upload_refused_at_once_needs_no_cleaning_up(ftp: FtpServer) -> None:
    """Where nothing was stored, nothing is said to delete it."""
    ftp.refuse["STOR"] = "553 no"
    with pytest.raises(UploadFailed):
        upload(Destination(ftp.url("/a.png")), BODY)
    assert ftp.said("DELE") == []


def test_a_busy_source_is_worth_a_retry(ftp: FtpServer) -> None:
    """A 450 for RETR is transient."""
    (ftp.root / "a.png").write_bytes(BODY)
    ftp.refuse["RETR"] = "450 busy"
    with pytest.raises(SourceUnreachable, match="450") as caught:
        fetch(ftp.url("/a.png"))
    assert caught.value.retryable


def test_connections_are_reused_across_jobs(ftp: FtpServer) -> None:
    """Uploads into different folders and fetches share one login, with paths from its folder."""

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            for folder in ("x", "y/z", "x"):
                url = ftp.url(f"/{folder}/a.png")
                await transfers.upload(Destination(url), BODY, content_type="image/png")
                async with transfers.fetch(url) as download:
                    assert await download.body() == BODY

    asyncio.run(run())
    assert ftp.connections == 1
    files = {str(file.relative_to(ftp.root)) for file in ftp.root.rglob("*") if file.is_file()}
    assert files == {"x/a.png", "y/z/a.png"}


def test_the_connection_of_another_user_is_not_used(ftp: FtpServer) -> None:
    """A login that succeeded does not serve a URL with the wrong password."""
    (ftp.root / "a.png").write_bytes(BODY)

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            async with transfers.fetch(ftp.url("/a.png")) as download:
                await download.body()
            async with transfers.fetch(ftp.url("/a.png", userinfo="user:wrong")) as download:
                await download.body()

    with pytest.raises(SourceUnreachable, match="refused the user name or password"):
        asyncio.run(run())


def test_tls_is_used_where_it_is_offered(tmp_path: Path, certificate: Certificate) -> None:
    """ftp: encrypts login and data with a server that can, trusted or not."""
    with FtpServer(tmp_path, certificate=certificate) as ftp:
        upload(Destination(ftp.url("/a.png")), BODY)
        commands = [name for name, _ in ftp.commands]
        assert commands.index("AUTH") < commands.index("USER")
        assert ftp.said("PROT") == ["P"]


def test_an_untrusted_ftps_server_is_refused(tmp_path: Path, certificate: Certificate) -> None:
    """ftps: asks for TLS, so its certificate must be trusted."""
    with FtpServer(tmp_path, certificate=certificate, implicit=True) as ftp:
        with pytest.raises(UploadFailed, match="certificate"):
            upload(Destination(ftp.url("/a.png")), BODY)
        assert ftp.commands == []


@pytest.mark.parametrize("path", ["/", "/x/", "/x/a%0d%0aDELE%20b.png"])
def test_a_url_that_names_no_file_is_refused(ftp: FtpServer, path: str) -> None:
    """A folder is no destination, and line breaks reach no server."""
    with pytest.raises(UploadFailed):
        upload(Destination(ftp.url(path)), BODY)
    assert ftp.said("STOR") == ftp.said("DELE") == []


def test_a_server_that_withholds_its_last_reply_stops_nobody_else(
    ftp: FtpServer, server: HttpServer
) -> None:
    """While one FTP transfer waits for its 226, the event loop serves the others."""
    (ftp.root / "a.png").write_bytes(BODY)
    server.files["/a.png"] = b"x"
    ftp.withheld.add("226")

    async def run() -> None:
        async with (
            Transfers(replace(OPEN, fetch_timeout_s=1.5)) as transfers,
            transfers.fetch(ftp.url("/a.png")) as waiting,
        ):
            assert await waiting.head(len(BODY)) == BODY
            async with transfers.fetch(server.url("/a.png")) as download:
                assert await download.body() == b"x"
            assert not waiting.complete
            with pytest.raises(SourceUnreachable, match="too slow"):
                await waiting.body()

    asyncio.run(run())


def test_leaving_a_waiting_transfer_ends_it_soon(ftp: FtpServer) -> None:
    """An abandoned transfer does not hold its thread until its timeout."""
    (ftp.root / "a.png").write_bytes(BODY)
    ftp.withheld.add("226")

    async def run() -> None:
        async with Transfers(OPEN) as transfers, transfers.fetch(ftp.url("/a.png")) as waiting:
            await waiting.head(1)

    since_s = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - since_s < 5


def test_a_cancelled_upload_is_not_renamed(ftp: FtpServer) -> None:
    """After cancellation nothing becomes visible any more, and nothing temporary stays."""
    ftp.withheld.add("226")

    async def run() -> None:
        async with Transfers(OPEN) as transfers:
            task = asyncio.create_task(
                transfers.upload(Destination(ftp.url("/a.png")), BODY, content_type="image/png")
            )
            async with asyncio.timeout(5):
                while not ftp.said("STOR"):  # noqa: ASYNC110 (another thread says it)
                    await asyncio.sleep(0.01)
            task.cancel()
            ftp.withheld.clear()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert ftp.said("RNTO") == []
    assert list(ftp.root.iterdir()) == []

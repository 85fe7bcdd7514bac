"""A real ProFTPD, configured as hosters do."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from imgserve.errors import SourceUnreachable
from imgserve.request import Destination
from imgserve.worker.transfers import Transfers
from tests.support.outside_server import free_port, running
from tests.worker.transfers.running import OPEN, upload

PROGRAM = shutil.which("proftpd", path="/usr/sbin:/usr/bin")
BODY = bytes(range(256)) * 500

pytestmark = pytest.mark.skipif(
    PROGRAM is None or os.geteuid() != 0, reason="needs proftpd and the right to start it"
)


@contextmanager
def proftpd(folder: Path, *directives: str) -> Iterator[str]:
    """Serve `folder`/files to user:secret; yield the URL of its root."""
    files = folder / "files"
    files.mkdir()
    port = free_port()
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "secret"], capture_output=True, text=True, check=True
    ).stdout.strip()
    users = folder / "users"
    users.write_text(f"user:{hashed}:{os.getuid()}:{os.getgid()}::{files}:/bin/sh\n")
    users.chmod(0o600)
    config = folder / "proftpd.conf"
    lines = [
        "ServerType standalone",
        f"Port {port}",
        "DefaultAddress 127.0.0.1",
        "SocketBindTight on",
        "User root",
        "Group root",
        "RootLogin on",
        "RequireValidShell off",
        "UseReverseDNS off",
        "AuthOrder mod_auth_file.c",
        f"AuthUserFile {users}",
        "DefaultRoot ~",
        "AllowOverwrite on",
        f"PidFile {folder}/pid",
        f"ScoreboardFile {folder}/scoreboard",
        f"SystemLog {folder}/log",
        *directives,
    ]
    config.write_text("\n".join(lines) + "\n")
    command = (str(PROGRAM), "--nodaemon", "--config", str(config))
    with running(folder, port, *command):
        yield f"ftp://user:secret@127.0.0.1:{port}"


@pytest.mark.parametrize("pattern", ["[.]part$", "(^|/)[.][a-z]"])
def test_a_filter_of_names_is_no_refusal_of_the_picture(tmp_path: Path, pattern: str) -> None:
    """PathDenyFilter against dot files and `.part` is common; the picture arrives all the same."""
    with proftpd(tmp_path, f'PathDenyFilter "{pattern}"') as url:
        upload(Destination(f"{url}/x/a.png"), BODY)
    assert [file.name for file in (tmp_path / "files" / "x").iterdir()] == ["a.png"]
    assert (tmp_path / "files" / "x" / "a.png").read_bytes() == BODY


@pytest.mark.parametrize("limit", [8, 2, 1])
def test_no_job_is_lost_to_the_servers_own_limit(tmp_path: Path, limit: int) -> None:
    """Sixty at once by two users, each way: their own number would have most of them refused."""
    with proftpd(tmp_path, f"MaxClientsPerHost {limit}") as url:
        files = tmp_path / "files"
        (files / "a.png").write_bytes(BODY)

        async def fetch_one(transfers: Transfers) -> bytes:
            async with transfers.fetch(f"{url}/a.png") as download:
                return await download.body()

        async def run() -> None:
            async with Transfers(replace(OPEN, ftp_connections=16)) as transfers:
                uploads = [
                    transfers.upload(
                        Destination(f"{url}/out/{number}.png"), BODY, content_type="image/png"
                    )
                    for number in range(30)
                ]
                fetches = [fetch_one(transfers) for _ in range(30)]
                results = await asyncio.gather(*uploads, *fetches)
                assert results[30:] == [BODY] * 30

        asyncio.run(run())
        assert len(list((files / "out").iterdir())) == 30
        assert {path.read_bytes() for path in (files / "out").iterdir()} == {BODY}


def test_unused_connection_of_another_user_gives_way(tmp_path: Path) -> None:
    """A server that allows one connection serves two users one after the other."""
    with proftpd(tmp_path, "MaxClientsPerHost 1") as url:
        (tmp_path / "files" / "a.png").write_bytes(BODY)
        users = tmp_path / "users"
        users.write_text(users.read_text() + users.read_text().replace("user:", "other:", 1))

        async def run() -> None:
            async with Transfers(replace(OPEN, ftp_connections=1)) as transfers:
                for user in ("user", "other", "user"):
                    async with transfers.fetch(f"{url}/a.png".replace("user", user)) as download:
                        assert await download.body() == BODY

        asyncio.run(run())


def test_wrong_password_is_no_limit(tmp_path: Path) -> None:
    """It ends with the server's words, at once, and the next user is served."""
    with proftpd(tmp_path) as url:
        (tmp_path / "files" / "a.png").write_bytes(BODY)

        async def run() -> None:
            async with Transfers(OPEN) as transfers:
                for _ in range(3):
                    async with transfers.fetch(f"{url}/a.png".replace("secret", "no")) as download:
                        with pytest.raises(
                            SourceUnreachable, match="530 Login incorrect"
                        ) as caught:
                            await download.body()
                        assert not caught.value.retryable
                async with transfers.fetch(f"{url}/a.png") as download:
                    assert await download.body() == BODY

        asyncio.run(run())

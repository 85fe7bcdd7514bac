"""A real ProFTPD, configured as hosters do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgserve.request import Destination
from tests.support.until import until
from tests.worker.transfers.running import upload

PROGRAM = shutil.which("proftpd", path="/usr/sbin:/usr/bin")
BODY = bytes(range(256)) * 500

pytestmark = pytest.mark.skipif(
    PROGRAM is None or os.geteuid() != 0, reason="needs proftpd and the right to start it"
)


def free_port() -> int:
    """Find a port: ProFTPD cannot be asked which one it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    process = subprocess.Popen(
        [str(PROGRAM), "--nodaemon", "--config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: is_open(port))
        yield f"ftp://user:secret@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def is_open(port: int) -> bool:
    """Tell whether something listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("pattern", ["[.]part$", "(^|/)[.][a-z]"])
def test_a_filter_of_names_is_no_refusal_of_the_picture(tmp_path: Path, pattern: str) -> None:
    """PathDenyFilter against dot files and `.part` is common; the picture arrives all the same."""
    with proftpd(tmp_path, f'PathDenyFilter "{pattern}"') as url:
        upload(Destination(f"{url}/x/a.png"), BODY)
    assert [file.name for file in (tmp_path / "files" / "x").iterdir()] == ["a.png"]
    assert (tmp_path / "files" / "x" / "a.png").read_bytes() == BODY

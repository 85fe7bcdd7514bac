"""Servers of other people, such as nginx and ProFTPD, run for one test."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.until import until


def free_port() -> int:
    """Find a port: these servers cannot be asked which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path, port: int, *command: str) -> Iterator[None]:
    """Start a server, and wait until it listens; what it says goes to `folder`/output."""
    output = folder / "output"
    with output.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or _is_open(port))
        assert process.poll() is None, output.read_text()
        yield
    finally:
        process.terminate()
        process.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

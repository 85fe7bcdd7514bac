"""A real daemon in a folder of its own, driven through its command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imgserve.commands.processes import alive, descendants, kill
from imgserve.commands.service_file import ServiceRecord, service_file
from tests.support.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
# On free loopback ports, with one pixel process: small and quick to start.
SMALL = (
    "--host=127.0.0.1",
    "--port=0",
    "--broker-port=0",
    "--processes=1",
    "--allow-network=127.0.0.0/8",
)


def environment() -> dict[str, str]:
    """Return an environment in which this checkout is imported and no setting is made."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMGSERVE_")}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def imgserve(
    *words: str,
    launcher: Sequence[str] = (),
    variables: Mapping[str, str] = {},
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run one command line to its end; a launcher is a command that becomes the one after it."""
    options = {"capture_output": True, "text": True, "timeout": 60} | options
    command = [*launcher, sys.executable, "-m", "imgserve", *words]
    return subprocess.run(command, env=environment() | variables, check=False, **options)


class Daemon:
    """A service whose processes all end with the `with` block.

    Args:
        state: its folder.
        launcher: what goes before each of its command lines.
    """

    def __init__(self, state: Path, launcher: Sequence[str] = ()) -> None:
        self.state = state
        self._launcher = launcher
        self._known: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.note()
        for pid in self._known:
            kill(pid, signal.SIGKILL)
        eventually(lambda: not self.left())

    def run(self, command: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on this service."""
        options = {"launcher": self._launcher} | options
        ended = imgserve(command, f"--state={self.state}", *words, **options)
        self.note()
        return ended

    def start(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Start it, small; the test fails when that does."""
        ended = self.run("start", *SMALL, *words)
        assert ended.returncode == 0, ended.stderr
        return ended

    def status(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        return json.loads(self.run("status", "--json").stdout)

    @property
    def record(self) -> ServiceRecord | None:
        """What the supervisor says of itself."""
        return ServiceRecord.read(service_file(self.state))

    def note(self) -> None:
        """Remember every process of the service, to see later that none is left."""
        if (record := self.record) is not None:
            self._known |= {record.pid, *descendants(record.pid)}

    def left(self) -> list[int]:
        """Return those of its processes that still run."""
        return [pid for pid in self._known if alive(pid)]

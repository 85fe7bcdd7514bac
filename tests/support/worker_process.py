"""A real worker process for tests, ended and looked after."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

DEADLINE_S = 15.0


class WorkerProcess:
    """Run `imgserve.worker.agent.serve`, as a context manager; leaving kills it.

    Args:
        connection_file: of its broker.
        log_file: where its log goes.
        settings: further settings.
    """

    def __init__(self, connection_file: Path, log_file: Path, **settings: Any) -> None:
        flags = {"connection": str(connection_file), "processes": 1, **settings}
        self._flags = {"allow_network": "127.0.0.0/8"} | flags
        self._log_file = log_file

    def __enter__(self) -> Self:
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.worker_main", json.dumps(self._flags)],
                stderr=log,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        children = self.children()
        self._process.kill()
        self._process.wait(DEADLINE_S)
        _, left = psutil.wait_procs(children, DEADLINE_S)
        assert not left, f"processes outlived their worker: {left}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log_file.read_text()

    def children(self) -> list[psutil.Process]:
        """Its pixel processes, with the template and the one that draws placeholders."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def terminate(self) -> None:
        """Ask it to drain."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Wait for its end; return the exit code."""
        return self._process.wait(timeout_s)

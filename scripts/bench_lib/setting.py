"""Where and how much a work runs, and the service it runs against."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

IMGSERVE = (sys.executable, "-m", "imgserve")


@dataclass(frozen=True, slots=True)
class Setting:
    """How a work is run.

    Args:
        folder: an empty folder of its own.
        rounds: how often.
        full: ten times the jobs.
    """

    folder: Path
    rounds: int
    full: bool

    def jobs(self, short: int) -> int:
        """The number of jobs of a round."""
        return short * 10 if self.full else short


@dataclass(frozen=True, slots=True)
class Service:
    """A running service.

    Args:
        url: of its gateway.
        connection: its connection file.
        pids: every process of it: supervisor, gateway, broker, worker, pixel processes.
    """

    url: str
    connection: Path
    pids: tuple[int, ...]

    def cpu_s(self) -> float:
        """CPU seconds that its processes have used, user and system."""
        return sum(cpu_s(pid) for pid in self.pids)


def cpu_s(pid: int) -> float:
    """CPU seconds of one process, user and system."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def running_service(folder: Path, *flags: str) -> Iterator[Service]:
    """Start the service with its journal and sandbox on, and stop it after the block."""
    state = folder / "state"
    words = [
        "start", "-host", "127.0.0.1", "-port", "0", "--broker-port", "0", "--state", str(state),
        "--allow-network", "127.0.0.0/8", "--file-root", str(folder), *flags,
    ]  # fmt: skip
    subprocess.run([*IMGSERVE, *words], check=True, stdout=subprocess.DEVNULL)
    try:
        status = subprocess.run(
            [*IMGSERVE, "status", "--json", "--state", str(state)], check=True, capture_output=True
        )
        facts = json.loads(status.stdout)
        workers = [worker["pid"] for worker in facts["workers"]]
        pixels = [pid for worker in facts["workers"] for pid in worker["pixel_pids"]]
        pids = (facts["pid"], *facts["gateways"], facts["broker"], *workers, *pixels)
        yield Service(facts["url"], state / "connection.json", pids)
    finally:
        subprocess.run([*IMGSERVE, "stop", "--state", str(state)], check=True, capture_output=True)

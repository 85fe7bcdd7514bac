"""Where and how much a work runs, and the service it runs against."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench_lib.report import BenchError

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
        parts: the processes of each part, such as broker or pixel processes.
    """

    url: str
    connection: Path
    parts: Mapping[str, tuple[int, ...]]

    @property
    def pids(self) -> tuple[int, ...]:
        """Every process of it."""
        return tuple(pid for pids in self.parts.values() for pid in pids)

    def cpu_s(self) -> float:
        """CPU seconds that its processes have used, user and system."""
        return sum(self.cpu_s_by_part().values())

    def cpu_s_by_part(self) -> dict[str, float]:
        """CPU seconds that the processes of each part have used, user and system.

        Raises:
            BenchError: when one has ended; what it used cannot be told any more.
        """
        return {part: sum(cpu_s(pid) for pid in pids) for part, pids in self.parts.items()}


def cpu_s(pid: int) -> float:
    """CPU seconds of one process, user and system."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess as exc:
        raise BenchError(f"process {pid} of the service ended while it was measured") from exc
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
        workers = facts["workers"]
        parts = {
            "supervisor": (facts["pid"],),
            "gateway": tuple(facts["gateways"]),
            "broker": (facts["broker"],),
            "worker": tuple(worker["pid"] for worker in workers),
            "pixel processes": tuple(pid for worker in workers for pid in worker["pixel_pids"]),
        }
        yield Service(facts["url"], state / "connection.json", parts)
    finally:
        subprocess.run([*IMGSERVE, "stop", "--state", str(state)], check=True, capture_output=True)

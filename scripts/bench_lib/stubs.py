"""A broker alone, and stub workers for it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_lib.report import BenchError
from bench_lib.setting import IMGSERVE, Service

STUB = Path(__file__).resolve().parent / "stub_worker.py"


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker.

    Args:
        service: its process, for the drivers; it has no gateway.
    """

    service: Service


@contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    """Run a broker with its journal in the folder for the length of a block."""
    state = folder / "state"
    state.mkdir(exist_ok=True)
    connection = state / "connection.json"
    words = [*IMGSERVE, "broker", "--broker-port", "0", "--state", str(state)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 30
        while not connection.exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise BenchError("the broker does not start")
            time.sleep(0.02)
        yield Broker(Service("", connection, {"broker": (process.pid,)}))
    finally:
        process.terminate()
        process.wait()


@contextmanager
def stub_workers(broker: Broker, count: int) -> Iterator[None]:
    """Run stub workers, all in one process, for the length of a block."""
    words = [sys.executable, str(STUB), str(broker.service.connection), str(count)]
    process = subprocess.Popen(words)
    try:
        yield
    finally:
        process.terminate()
        process.wait()

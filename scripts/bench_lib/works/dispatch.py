"""W2: durable jobs a second through the real broker, with a worker that does no work."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench_lib import drive
from bench_lib.report import BenchError, Figure
from bench_lib.setting import IMGSERVE, Service, Setting

SHORT_JOBS = 20_000
STUB = Path(__file__).resolve().parent.parent / "stub_worker.py"


def run(setting: Setting) -> list[Figure]:
    """Measure a batch through broker and stub worker; submitter and worker are native peers."""
    state = setting.folder / "state"
    state.mkdir()
    broker = subprocess.Popen(
        [*IMGSERVE, "broker", "--broker-port", "0", "--state", str(state)],
        stderr=subprocess.DEVNULL,
    )
    connection = state / "connection.json"
    _wait_for(connection)
    stub = subprocess.Popen([sys.executable, str(STUB), str(connection), "1"])
    service = Service("", connection, (broker.pid,))
    try:
        costs = []
        for each in range(setting.rounds + 1):
            jobs = setting.jobs(SHORT_JOBS) if each else 500
            costs.append(drive.submitted(service, jobs, f"w2-{each}"))
    finally:
        for process in (stub, broker):
            process.terminate()
            process.wait()
    costs = costs[1:]
    return [
        Figure("throughput", "jobs/s", tuple(cost.jobs_a_second for cost in costs), ">= 10000"),
        Figure(
            "CPU of the broker a job",
            "µs",
            tuple(1000 * cost.cpu_ms_a_job for cost in costs),
        ),
    ]


def _wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > deadline_s:
            raise BenchError("the broker does not start")
        time.sleep(0.02)

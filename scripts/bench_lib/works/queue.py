"""W6: a million jobs in the queue: the broker's memory, the rate of submits, its restart."""

from __future__ import annotations

import time

import psutil

from bench_lib import drive
from bench_lib.report import Figure
from bench_lib.setting import Setting
from bench_lib.stubs import running_broker, stub_workers

SHORT_JOBS = 100_000
PARTS = 10


def run(setting: Setting) -> list[Figure]:
    """Submit the queue full without a worker, restart the broker, take a first job."""
    jobs = setting.jobs(SHORT_JOBS)
    with running_broker(setting.folder) as broker:
        rates = []
        for part in range(PARTS):
            started_s = time.monotonic()
            drive.queued(broker.service, jobs // PARTS, f"w6-{part}")
            rates.append(jobs / PARTS / (time.monotonic() - started_s))
        filled_mb = _memory_mb(broker.service.pids[0])
    started_s = time.monotonic()
    with running_broker(setting.folder) as broker:
        drive.stats(broker.service)
        ready_s = time.monotonic() - started_s
        with stub_workers(broker, 1):
            drive.submitted(broker.service, 100, "after")
            restarted_mb = _memory_mb(broker.service.pids[0])
    return [
        Figure(f"submits, first tenth of {jobs}", "jobs/s", (rates[0],)),
        Figure("submits, last tenth", "jobs/s", (rates[-1],)),
        Figure("last tenth beside the first", "x", (rates[-1] / rates[0],), ">= 0.9"),
        Figure("memory of the broker, queue full", "MB", (filled_mb,), "< 400"),
        Figure("restart until it answers", "s", (ready_s,), "<= 10"),
        Figure("memory of the broker, restarted", "MB", (restarted_mb,), "< 400"),
    ]


def _memory_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 2**20)

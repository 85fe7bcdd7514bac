"""W2: durable jobs a second through the real broker, with a worker that does no work."""

from __future__ import annotations

from bench_lib import drive
from bench_lib.noise import RATE_SPREAD_MOST
from bench_lib.report import Figure
from bench_lib.setting import Setting
from bench_lib.stubs import running_broker, stub_workers

SHORT_JOBS = 20_000


def run(setting: Setting) -> list[Figure]:
    """Measure a batch through broker and stub worker; submitter and worker are native peers."""
    jobs = setting.jobs(SHORT_JOBS)
    with running_broker(setting.folder) as broker, stub_workers(broker, 1):
        drive.submitted(broker.service, 500, "warm")
        costs = [
            drive.submitted(broker.service, jobs, f"w2-{each}") for each in range(setting.rounds)
        ]
    return [
        Figure(
            "throughput",
            "jobs/s",
            tuple(cost.jobs_a_second for cost in costs),
            ">= 10000",
            RATE_SPREAD_MOST,
        ),
        Figure(
            "CPU of the broker a job",
            "µs",
            tuple(1000 * cost.cpu_ms_a_job for cost in costs),
        ),
    ]

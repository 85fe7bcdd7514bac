"""W2: durable jobs a second through the real broker, with a worker that does no work."""

from __future__ import annotations

from bench_lib import bare_broker, drive
from bench_lib.noise import RATE_SPREAD_MOST
from bench_lib.report import Figure
from bench_lib.setting import Setting
from bench_lib.stubs import running_broker, stub_workers

SHORT_JOBS = 20_000


def run(setting: Setting) -> list[Figure]:
    """Measure batches through broker and stub worker; submitter and worker are native peers.

    Beside each a bare loop carries as many: what Python, ZeroMQ and SQLite give on this machine.
    """
    jobs = setting.jobs(SHORT_JOBS)
    with running_broker(setting.folder) as broker, stub_workers(broker, 1):
        drive.submitted(broker.service, 500, "warm")
        costs, bares = [], []
        for each in range(setting.rounds):
            place = setting.folder / f"bare-{each}"
            place.mkdir()
            bares.append(bare_broker.run(place, SHORT_JOBS))
            costs.append(drive.submitted(broker.service, jobs, f"w2-{each}"))
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
        Figure("bare loop, throughput", "jobs/s", tuple(bare.jobs_a_second for bare in bares)),
        Figure("bare loop, CPU a job", "µs", tuple(1000 * bare.cpu_ms_a_job for bare in bares)),
        Figure(
            "throughput beside the bare loop",
            "x",
            tuple(c.jobs_a_second / b.jobs_a_second for c, b in zip(costs, bares, strict=True)),
        ),
    ]

"""W3: 64x64 PNG from file to file: what a job costs besides its pixels."""

from __future__ import annotations

from bench_lib import drive
from bench_lib.noise import RATE_SPREAD_MOST
from bench_lib.picture import png
from bench_lib.report import Figure
from bench_lib.setting import Setting, running_service

SHORT_JOBS = 2_000


def run(setting: Setting) -> list[Figure]:
    """Measure jobs through the native client."""
    source = setting.folder / "tiny.png"
    source.write_bytes(png(64, 64))
    jobs = setting.jobs(SHORT_JOBS)
    with running_service(setting.folder) as service:
        costs = []
        for each in range(setting.rounds + 1):
            wanted = [
                {
                    "operationType": "resize",
                    "srcURL": f"file://{source}",
                    "dstURL": f"file://{setting.folder}/out/{each}-{number}.png",
                    "args": {"width": 32, "height": 32},
                }
                for number in range(jobs if each else 100)
            ]
            costs.append(drive.native(service, wanted, window=128))
    costs = costs[1:]  # the first one warms up
    return [
        Figure(
            "throughput",
            "jobs/s",
            tuple(cost.jobs_a_second for cost in costs),
            ">= 1200",
            RATE_SPREAD_MOST,
        ),
        Figure("CPU a job", "ms", tuple(cost.cpu_ms_a_job for cost in costs)),
    ]

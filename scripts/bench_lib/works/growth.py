"""W8: whether a job costs the same after many, and whether pixel processes add up."""

from __future__ import annotations

import os

from bench_lib import drive
from bench_lib.ends import nginx
from bench_lib.picture import jpeg
from bench_lib.report import Figure
from bench_lib.setting import Setting, running_service
from bench_lib.works.resize import WINDOW, requests

BATCH = 500


def run(setting: Setting) -> list[Figure]:
    """Measure batches one after the other in one service, then services of 1 to all processes."""
    with nginx(setting.folder) as ends:
        (ends.sources / "photo.jpg").write_bytes(jpeg(1733, 1154))
        batches = 20 if setting.full else 4
        folder = setting.folder / "growth"
        folder.mkdir()
        with running_service(folder) as service:
            drive.native(service, requests(ends, 100, "warm"), window=WINDOW)
            costs = [
                drive.native(
                    service, requests(ends, setting.jobs(BATCH), f"g{each}"), window=WINDOW
                )
                for each in range(batches)
            ]
        rates = []
        for processes in range(1, len(os.sched_getaffinity(0)) + 1):
            folder = setting.folder / f"p{processes}"
            folder.mkdir()
            with running_service(folder, "--processes", str(processes)) as service:
                drive.native(service, requests(ends, 50, "warm"), window=WINDOW)
                cost = drive.native(
                    service, requests(ends, setting.jobs(BATCH), f"p{processes}"), window=WINDOW
                )
                rates.append(cost.jobs_a_second)
    first = costs[0].cpu_ms_a_job
    total = batches * setting.jobs(BATCH)
    return [
        Figure(
            f"CPU a job beside the first batch, over {total} jobs",
            "x",
            tuple(cost.cpu_ms_a_job / first for cost in costs),
            "0.9 to 1.1",
        ),
        *(
            Figure(f"throughput with {count} pixel processes", "jobs/s", (rate,))
            for count, rate in enumerate(rates, 1)
        ),
        Figure(
            "all processes beside as many times one",
            "x",
            (rates[-1] / (rates[0] * len(rates)),),
            ">= 0.95",
        ),
    ]

"""W4: how soon POST / is answered when nothing else runs: placeholder in place, job accepted."""

from __future__ import annotations

import asyncio
import time

from bench_lib import drive
from bench_lib.ends import nginx
from bench_lib.noise import RATE_SPREAD_MOST
from bench_lib.picture import jpeg
from bench_lib.report import BenchError, Figure
from bench_lib.setting import Setting, running_service
from bench_lib.works.resize import requests

SHORT_JOBS = 200
PAUSE_S = 0.02
"""Between two requests, so that the former job is over: the service is idle each time."""


def run(setting: Setting) -> list[Figure]:
    """Measure replies one after the other over one kept connection."""
    with nginx(setting.folder) as ends, running_service(setting.folder) as service:
        (ends.sources / "photo.jpg").write_bytes(jpeg(1200, 800, size_bytes=250_000))
        rounds = []
        for each in range(setting.rounds + 1):
            wanted = requests(ends, setting.jobs(SHORT_JOBS), f"l{each}")
            rounds.append(asyncio.run(_replies_ms(service.url, wanted)))
    rounds = rounds[1:]  # the first one warms up
    return [
        Figure(
            "p50", "ms", tuple(_quantile(each, 0.5) for each in rounds), "<= 12", RATE_SPREAD_MOST
        ),
        Figure("p99", "ms", tuple(_quantile(each, 0.99) for each in rounds), "<= 40"),
    ]


async def _replies_ms(url: str, wanted: list[drive.Request]) -> list[float]:
    poster = await drive.Poster.open(url)
    times_ms = []
    for request in wanted:
        started_s = time.perf_counter()
        answer = await poster.post(request)
        times_ms.append(1000 * (time.perf_counter() - started_s))
        if "dstURL" not in answer:
            raise BenchError(f"a request was answered {answer}")
        await asyncio.sleep(PAUSE_S)
    poster.close()
    return sorted(times_ms)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

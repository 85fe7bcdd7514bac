"""W5: a thousand workers: how soon all have joined, how fast they are fed, what idling costs."""

from __future__ import annotations

import time

from bench_lib import drive
from bench_lib.noise import RATE_SPREAD_MOST
from bench_lib.report import BenchError, Figure
from bench_lib.setting import Setting
from bench_lib.stubs import Broker, running_broker, stub_workers

FEW, MANY = 2, 1_000
SHORT_JOBS = 10_000
IDLE_S = 5.0


def run(setting: Setting) -> list[Figure]:
    """Measure the same batch with few and with many stub workers."""
    few = [_rate(setting, FEW, each)[0] for each in range(setting.rounds)]
    many = [_rate(setting, MANY, each) for each in range(setting.rounds)]
    rates, joins_s, idles = zip(*many, strict=True)
    return [
        Figure(f"join of {MANY} workers", "s", joins_s, "<= 10"),
        Figure(f"throughput with {FEW} workers", "jobs/s", tuple(few)),
        Figure(f"throughput with {MANY} workers", "jobs/s", rates),
        Figure(
            f"{MANY} workers beside {FEW}",
            "x",
            tuple(many / few for many, few in zip(rates, few, strict=True)),
            ">= 0.80",
            RATE_SPREAD_MOST,
        ),
        Figure(f"CPU of the idle broker, {MANY} workers", "% core", idles, "< 5"),
    ]


def _rate(setting: Setting, workers: int, each: int) -> tuple[float, float, float]:
    """Return jobs a second, seconds to join, and per cent of a core while idle."""
    folder = setting.folder / f"{workers}-{each}"
    folder.mkdir()
    with running_broker(folder) as broker:
        started_s = time.monotonic()
        with stub_workers(broker, workers):
            _wait_for_workers(broker, workers, started_s + 60)
            joined_s = time.monotonic() - started_s
            drive.submitted(broker.service, 500, "warm")
            cost = drive.submitted(broker.service, setting.jobs(SHORT_JOBS), f"w5-{each}")
            cpu_s = broker.service.cpu_s()
            time.sleep(IDLE_S)
            idle = 100 * (broker.service.cpu_s() - cpu_s) / IDLE_S
    return cost.jobs_a_second, joined_s, idle


def _wait_for_workers(broker: Broker, workers: int, deadline_s: float) -> None:
    while drive.stats(broker.service)["credit"] < workers:
        if time.monotonic() > deadline_s:
            raise BenchError(f"{workers} workers did not join")
        time.sleep(0.05)

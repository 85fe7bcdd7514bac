"""W8: whether a job costs the same after many, and whether pixel processes add up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench_lib import bare, drive
from bench_lib.ends import Ends, nginx
from bench_lib.noise import RATIO_SPREAD_MOST
from bench_lib.picture import jpeg, png
from bench_lib.report import Figure
from bench_lib.setting import Service, Setting, cpu_s, running_service
from bench_lib.works.resize import WINDOW, check_results, requests

FIRST_JOBS = 1_000
"""Done before the first batch that is measured: caches are warm, pools are full."""

SHORT_BATCHES, SHORT_BATCH = 3, 500
FULL_BATCHES, FULL_BATCH = 11, 9_000
"""With the first jobs 100,000 in all."""

GROWTH_ROW = "64x64 PNG, CPU beside bare, beside the first batch"
"""How the name of the row of growth begins; its values are of batches, not of rounds."""

LAST_ROW = "64x64 PNG, CPU beside bare, last third of batches beside the first"

BARE_STEADY = 0.15
"""A tenth more or less is looked for: the host may not change its speed by much more."""

TINY_WINDOW = 128
BARE_TINY_JOBS = 4_000
SHORT_SCALED_JOBS = 150


def run(setting: Setting) -> list[Figure]:
    """Measure batches one after the other in one service, then services of 1 to all processes."""
    return [*_growth(setting), *_scaling(setting)]


def _growth(setting: Setting) -> list[Figure]:
    """Tiny jobs, so that what the service keeps of a job is what counts, and many take minutes.

    Each batch has the bare loop before it: over minutes a shared host changes its speed by more
    than what is looked for.
    """
    source = png(64, 64)
    (setting.folder / "tiny.png").write_bytes(source)
    batches, batch = (FULL_BATCHES, FULL_BATCH) if setting.full else (SHORT_BATCHES, SHORT_BATCH)
    bares, costs, memories_mb = [], [], []
    with running_service(setting.folder) as service:
        drive.native(service, _tiny(setting, FIRST_JOBS, "first"), window=TINY_WINDOW)
        for each in range(batches):
            bares.append(
                bare.run(source, width_px=32, height_px=32, kind="PNG", jobs=BARE_TINY_JOBS)
            )
            wanted = _tiny(setting, batch, f"g{each}")
            costs.append(drive.native(service, wanted, window=TINY_WINDOW))
            memories_mb.append(_memory_mb(service, "broker") + _memory_mb(service, "worker"))
    return [
        *growth_figures(bares, costs),
        Figure("memory of broker and worker, by batch", "MB", tuple(memories_mb)),
    ]


def growth_figures(bares: list[bare.Cost], costs: list[drive.ServiceCost]) -> list[Figure]:
    """Return the rows of what the batches cost, each beside the bare loop before it."""
    beside = [
        cost.cpu_ms_a_job / base.cpu_ms_a_job for cost, base in zip(costs, bares, strict=True)
    ]
    third = max(1, len(beside) // 3)
    total = FIRST_JOBS + sum(cost.jobs for cost in costs)
    return [
        Figure(
            "bare loop, 64x64 PNG, CPU a job",
            "ms",
            tuple(cost.cpu_ms_a_job for cost in bares),
            spread_most=BARE_STEADY,
        ),
        Figure(
            "64x64 PNG, file to file, CPU a job, by batch",
            "ms",
            tuple(cost.cpu_ms_a_job for cost in costs),
        ),
        Figure(
            f"{GROWTH_ROW}, jobs {FIRST_JOBS} to {total}",
            "x",
            tuple(each / beside[0] for each in beside),
        ),
        Figure(LAST_ROW, "x", (median(beside[-third:]) / median(beside[:third]),), "0.9 to 1.1"),
    ]


def _tiny(setting: Setting, jobs: int, name: str) -> Iterator[drive.Request]:
    return (
        {
            "operationType": "resize",
            "srcURL": f"file://{setting.folder}/tiny.png",
            # One file again and again: a folder of 100,000 would grow, and that is not the service.
            "dstURL": f"file://{setting.folder}/out/{each % TINY_WINDOW}-{name}.png",
            "args": {"width": 32, "height": 32},
        }
        for each in range(jobs)
    )


def _memory_mb(service: Service, part: str) -> float:
    return float(sum(psutil.Process(pid).memory_info().rss for pid in service.parts[part]) / 2**20)


@dataclass(frozen=True, slots=True)
class Scaled:
    """What a service with some pixel processes did in one round.

    Args:
        jobs_a_second: its rate.
        cpu_s_a_job: of the service, its client, and nginx at both ends: all that a job takes.
    """

    jobs_a_second: float
    cpu_s_a_job: float


def _scaling(setting: Setting) -> list[Figure]:
    """W1's picture by 1 pixel process, and by one for every core.

    Only pixel processes are added: broker, worker, nginx and client share the cores with them. So
    n of them cannot do n times what one does where that would take more CPU than the cores have,
    and the goal is the lesser of the two.
    """
    cores = len(os.sched_getaffinity(0))
    counts = range(1, cores + 1)
    with nginx(setting.folder) as ends, ExitStack() as stack:
        (ends.sources / "photo.jpg").write_bytes(jpeg(1733, 1154))
        services = {count: stack.enter_context(_processes(setting, count)) for count in counts}
        for count, service in services.items():
            drive.native(service, requests(ends, 50, f"warm{count}"), window=WINDOW)
        rounds = [
            [_scaled(setting, ends, services[count], f"p{count}-{each}") for count in counts]
            for each in range(setting.rounds)
        ]
    figures = [
        Figure(
            f"W1's picture, {_named(count)}",
            "jobs/s",
            tuple(each[count - 1].jobs_a_second for each in rounds),
        )
        for count in counts
    ]
    if cores == 1:
        return figures
    ones, alls = [each[0] for each in rounds], [each[-1] for each in rounds]
    linear = tuple(
        every.jobs_a_second / (cores * one.jobs_a_second)
        for one, every in zip(ones, alls, strict=True)
    )
    reachable = tuple(
        every.jobs_a_second / min(cores * one.jobs_a_second, cores / every.cpu_s_a_job)
        for one, every in zip(ones, alls, strict=True)
    )
    return [
        *figures,
        Figure(f"{_named(cores)} beside {cores} x one", "x", linear),
        Figure(
            f"{_named(cores)} beside the lesser of {cores} x one and all {cores} cores' CPU",
            "x",
            reachable,
            ">= 0.95",
            RATIO_SPREAD_MOST,
        ),
    ]


def _named(count: int) -> str:
    return f"{count} pixel process" + ("es" if count > 1 else "")


@contextmanager
def _processes(setting: Setting, count: int) -> Iterator[Service]:
    folder: Path = setting.folder / f"p{count}"
    folder.mkdir()
    with running_service(folder, "--processes", str(count)) as service:
        yield service


def _scaled(setting: Setting, ends: Ends, service: Service, name: str) -> Scaled:
    jobs = setting.jobs(SHORT_SCALED_JOBS)
    before_s = _children_s()
    cost = drive.native(service, requests(ends, jobs, name), window=WINDOW)
    nginx_s = _children_s() - before_s
    check_results(ends, jobs, name)
    return Scaled(cost.jobs_a_second, (cost.cpu_s + nginx_s) / jobs)


def _children_s() -> float:
    """CPU seconds of this process's children: of nginx; the service is no child of it."""
    return sum(cpu_s(each.pid) for each in psutil.Process().children(recursive=True))

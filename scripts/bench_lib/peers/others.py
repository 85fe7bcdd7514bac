"""What single peers are measured at besides W1: Celery's own cost, libvips with large pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench_lib import bare
from bench_lib.noise import RATIO_SPREAD_MOST
from bench_lib.peers import looks
from bench_lib.peers.celery_peer import running_celery
from bench_lib.peers.pyvips_peer import running_loops
from bench_lib.picture import jpeg, png
from bench_lib.report import Figure
from bench_lib.setting import Setting

NO_OPS = 1_000
LARGE: dict[str, tuple[Callable[[], bytes], str, tuple[int, int], int]] = {
    "24 MP JPEG": (lambda: jpeg(6000, 4000), "JPEG", (1200, 800), 24),
    "12 MP PNG": (lambda: png(4000, 3000), "PNG", (400, 300), 8),
}
"""W7's pictures: how to make one, its kind, the result's size, and the jobs of a short round."""


def no_ops(setting: Setting, folder: Path) -> list[Figure]:
    """Measure Celery with tasks that do nothing: what it costs whatever the work is."""
    jobs = setting.jobs(NO_OPS)
    with running_celery(folder, appendonly=False) as celery:
        celery.nothing(100)
        costs = [celery.nothing(jobs) for _ in range(setting.rounds)]
    rates = tuple(cost.jobs_a_second for cost in costs)
    cpu = tuple(cost.cpu_ms_a_job for cost in costs)
    return [
        # The goals were set where Celery did so many: this is how machines are compared.
        Figure("Celery, tasks that do nothing", "jobs/s", rates, "480 where the goals were set"),
        Figure("Celery, a task that does nothing, CPU", "ms", cpu),
    ]


def large(setting: Setting, folder: Path) -> list[Figure]:
    """Measure W7's pictures by the bare loop and by libvips."""
    figures = []
    with running_loops(folder) as loops:
        for name, (make, kind, size, short) in LARGE.items():
            source, jobs = make(), setting.jobs(short)
            path = folder / f"large.{kind.lower()}"
            path.write_bytes(source)
            reference = bare.cover(source, *size, kind)
            bares, others = [], []
            for _ in range(setting.rounds):
                bares.append(
                    bare.run(source, width_px=size[0], height_px=size[1], kind=kind, jobs=jobs)
                )
                done = loops.run(path, size, kind, jobs)
                looks.require_same(done.results, len(done.results), reference, size, kind)
                others.append(done.cost)
            ratios = (
                base.cpu_ms_a_job / cost.cpu_ms_a_job
                for base, cost in zip(bares, others, strict=True)
            )
            most = RATIO_SPREAD_MOST
            goal = "<= 1" if kind == "JPEG" else ""
            figures += [
                Figure(f"{name}, bare loop, CPU", "ms", tuple(c.cpu_ms_a_job for c in bares)),
                Figure(f"{name}, pyvips, CPU", "ms", tuple(c.cpu_ms_a_job for c in others)),
                Figure(f"{name}, bare loop's CPU beside pyvips", "x", tuple(ratios), goal, most),
            ]
    return figures

"""The bare pixel loop: what a job costs when nothing but its pixels is done, from memory."""

from __future__ import annotations

import io
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class Cost:
    """What a number of jobs cost: CPU and wall seconds."""

    jobs: int
    cpu_s: float
    wall_s: float

    @property
    def cpu_ms_a_job(self) -> float:
        """CPU milliseconds of one job."""
        return 1000 * self.cpu_s / self.jobs

    @property
    def jobs_a_second(self) -> float:
        """Jobs finished in a second."""
        return self.jobs / self.wall_s

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of both."""
        return Cost(self.jobs + other.jobs, self.cpu_s + other.cpu_s, self.wall_s + other.wall_s)


def cover(data: bytes, width_px: int, height_px: int, kind: str) -> bytes:
    """Decode, scale and crop, encode: as imgserve does it, with nothing around."""
    image = Image.open(io.BytesIO(data), formats=(kind,))
    image.draft(image.mode, (2 * width_px, 2 * height_px))
    scale = min(image.width / width_px, image.height / height_px)
    box_width, box_height = width_px * scale, height_px * scale
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 3
    box = (left, top, left + box_width, top + box_height)
    small = image.resize((width_px, height_px), Image.Resampling.LANCZOS, box=box, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, kind, quality=85, optimize=kind == "JPEG")
    return buffer.getvalue()


def _loop(data: bytes, width_px: int, height_px: int, kind: str, jobs: int) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(jobs):
        cover(data, width_px, height_px, kind)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(data: bytes, *, width_px: int, height_px: int, kind: str, jobs: int) -> Cost:
    """Run the loop in one process per CPU and return its cost."""
    processes = len(os.sched_getaffinity(0))
    share = jobs // processes
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(_warm, range(processes)))
        started_s = time.monotonic()
        arguments = (data, width_px, height_px, kind, share)
        cpu_s = sum(pool.map(_loop, *zip(*[arguments] * processes, strict=True)))
        wall_s = time.monotonic() - started_s
    return Cost(share * processes, cpu_s, wall_s)


def run_call(call: Callable[[], bytes], jobs: int) -> Cost:
    """Call one function over and over in one process per CPU and return its cost."""
    processes = len(os.sched_getaffinity(0))
    share = jobs // processes
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(_call_loop, [call] * processes, [2] * processes))
        started_s = time.monotonic()
        cpu_s = sum(pool.map(_call_loop, [call] * processes, [share] * processes))
        wall_s = time.monotonic() - started_s
    return Cost(share * processes, cpu_s, wall_s)


def _call_loop(call: Callable[[], bytes], jobs: int) -> float:
    started_s = time.process_time()
    for _ in range(jobs):
        call()
    return time.process_time() - started_s


def _warm(_: int) -> None:
    Image.init()

"""The jobs that wait for a pixel process: short ones first, otherwise in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from imgserve.worker.pixels.frames import PixelOperation, Request
from imgserve.worker.pixels.settings import Rendered

# About a millisecond, and somebody waits for the answer to a request behind it.
SHORT = frozenset({PixelOperation.CHECK_SVG})


@dataclass(eq=False, slots=True)
class PixelJob:
    """One request, its bytes, the future that its caller awaits, and the memory it holds."""

    asked: Request
    data: bytes
    future: asyncio.Future[Rendered]
    reserved_bytes: int = 0
    running: bool = False
    # A second process has it: what that one says holds.
    retried: bool = False


class JobQueue:
    """Hands each job to one taker; unbounded, because credit bounds what a worker holds."""

    def __init__(self) -> None:
        self._short: deque[PixelJob] = deque()
        self._heavy: deque[PixelJob] = deque()
        self._takers: deque[asyncio.Future[PixelJob | None]] = deque()

    def __len__(self) -> int:
        return len(self._short) + len(self._heavy)

    def put(self, job: PixelJob) -> None:
        """Add a job, or give it to who has waited longest."""
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(job)
                return
        self._lane(job).append(job)

    def take(self) -> asyncio.Future[PixelJob | None]:
        """Promise the next job; the taker may settle the promise itself, with None, to leave."""
        taker: asyncio.Future[PixelJob | None] = asyncio.get_running_loop().create_future()
        lane = self._short or self._heavy
        if lane:
            taker.set_result(lane.popleft())
        else:
            self._takers.append(taker)
        return taker

    def discard(self, job: PixelJob) -> None:
        """Forget a job that still waits; does nothing when it has been taken."""
        if job in self._lane(job):
            self._lane(job).remove(job)

    def clear(self) -> None:
        """Cancel every job that still waits."""
        for job in (*self._short, *self._heavy):
            job.future.cancel()
        self._short.clear()
        self._heavy.clear()

    def _lane(self, job: PixelJob) -> deque[PixelJob]:
        return self._short if job.asked.operation in SHORT else self._heavy

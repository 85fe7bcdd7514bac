"""Submitters of a run, each in a process of its own: they write down all they say and hear.

usage: python -m scripts.chaos_lib.load native|http JSON     (the fields of `Order`)
SIGTERM: submit no more, wait for what is under way, for a while.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imgserve.commands.processes import die_with
from scripts.chaos_lib.jobs import Ends, PlannedJob, plan_job
from scripts.chaos_lib.trace import Trace

WINDOW: Final = 300
"""Jobs of one submitter under way at most: a service that is down gets no endless queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a submitter is told.

    Args:
        name: begins its job ids.
        where: the connection file, or the gateway's URL.
        rate: jobs a second.
        drain_s: how long it waits at its end for what is under way.
        ends: the file that tells where sources and destinations are.
        ledger: the file that it writes.
        parent: the pid with which it dies.
    """

    name: str
    where: str
    rate: float
    seed: int
    drain_s: float
    ends: str
    ledger: str
    parent: int


Life = Callable[[PlannedJob], Coroutine[Any, Any, None]]


class Load:
    """Begins jobs at a rate until told to end; every job's life is a task."""

    def __init__(self, order: Order) -> None:
        self.ledger = Trace(Path(order.ledger))
        self._order = order
        self._ends = Ends(**json.loads(Path(order.ends).read_text()))
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stop = asyncio.Event()

    async def run(self, life: Life) -> None:
        """Begin jobs until SIGTERM, then wait for those under way."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        chance = random.Random(f"{self._order.name} {self._order.seed}")  # noqa: S311 (a plan)
        number = 0
        while not self._stop.is_set():
            await self._wait(chance.expovariate(self._order.rate))
            if len(self._tasks) >= WINDOW:
                continue
            number += 1
            self._begin(plan_job(chance, f"{self._order.name}-{number:06d}", self._ends), life)
        deadline_s = time.monotonic() + self._order.drain_s
        while self._tasks and time.monotonic() < deadline_s:
            await asyncio.wait(list(self._tasks), timeout=1)
        for task, job_id in list(self._tasks.items()):
            self.ledger.write("unresolved", job=job_id)
            task.cancel()

    def _begin(self, job: PlannedJob, life: Life) -> None:
        self.ledger.write(
            "submit",
            job=job.job_id,
            flavour=job.flavour,
            source=job.source,
            size=[job.width_px, job.height_px],
            dst=job.request["dstURL"],
        )
        task = asyncio.create_task(self._live(job, life))
        self._tasks[task] = job.job_id
        task.add_done_callback(self._tasks.pop)

    async def _live(self, job: PlannedJob, life: Life) -> None:
        try:
            await life(job)
        except Exception as exc:  # noqa: BLE001 (whatever a client raises is evidence)
            self.ledger.write("raised", job=job.job_id, detail=f"{type(exc).__name__}: {exc}")

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return


def main(kind: str, words: str) -> None:
    """Run one submitter."""
    order = Order(**json.loads(words))
    die_with(order.parent)
    if kind == "native":
        from scripts.chaos_lib.load_native import submit_natively as submit  # noqa: PLC0415
    else:
        from scripts.chaos_lib.load_http import submit_over_http as submit  # noqa: PLC0415

    async def run() -> None:
        await submit(order, Load(order))

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])

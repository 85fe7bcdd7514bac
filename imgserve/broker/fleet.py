"""The workers that have a lane: their credit, what they hold, when they were last heard."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from imgserve.broker.job import Job
from imgserve.protocol.reports import Beat, Hello


@dataclass(slots=True)
class Worker:
    """One incarnation of a worker.

    Args:
        heard_s: when anything of it was last received: its lease runs from here.
        lively: it has beaten at least once, so its lane is connected.
        held: what it works on, by job id: this is its used credit.
    """

    hello: Hello
    joined_s: float
    heard_s: float
    endpoint: str = ""
    lively: bool = False
    held: dict[str, Job] = field(default_factory=dict)
    beat: Beat | None = None

    @property
    def credit(self) -> int:
        """Free slots."""
        return self.hello.slots - len(self.held) if self.lively else 0


class Fleet:
    """All workers, with the freest always at hand."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self._free: list[tuple[int, str]] = []  # (-credit, incarnation), checked when popped

    def add(self, hello: Hello, now_s: float) -> Worker:
        """Take in a worker; it gets no work before its first beat."""
        worker = Worker(hello, now_s, now_s)
        self.workers[hello.incarnation] = worker
        return worker

    def remove(self, incarnation: str) -> Worker | None:
        """Let a worker go."""
        return self.workers.pop(incarnation, None)

    def offer(self, worker: Worker) -> None:
        """Note that a worker's credit has grown."""
        if worker.credit > 0:
            heapq.heappush(self._free, (-worker.credit, worker.hello.incarnation))
        if len(self._free) > 4 * len(self.workers) + 64:  # stale entries lie below the top
            self._free = [(-each.credit, name) for name, each in self.workers.items()]
            heapq.heapify(self._free)

    def freest(self) -> Worker | None:
        """Return the worker with the most credit, None when all are full."""
        while self._free:
            credit, incarnation = self._free[0]
            worker = self.workers.get(incarnation)
            if worker is not None and worker.credit == -credit and credit:
                return worker
            heapq.heappop(self._free)
            if worker is not None and 0 < worker.credit < -credit:
                self.offer(worker)
        return None

    def silent_since(self, limit_s: float) -> list[Worker]:
        """Return the workers last heard before a time."""
        return [worker for worker in self.workers.values() if worker.heard_s < limit_s]

    @property
    def credit(self) -> int:
        """Free slots of all workers."""
        return sum(worker.credit for worker in self.workers.values())

    @property
    def in_flight(self) -> int:
        """Jobs that workers hold."""
        return sum(len(worker.held) for worker in self.workers.values())

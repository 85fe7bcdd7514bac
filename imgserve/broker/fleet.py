"""The workers that have a lane: their credit, what they hold, when they were last heard."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from imgserve.broker.job import Job
from imgserve.protocol.reports import Beat, Hello

DEPARTED_LIMIT: Final = 64
"""Workers whose last word is remembered: a screenful, not a history."""


@dataclass(slots=True)
class Worker:
    """One incarnation of a worker.

    Args:
        heard_s: when anything of it was last received: its lease runs from here.
        lively: it has beaten at least once, so its lane is connected.
        held: what it works on, by job id: this is its used credit.
        leaving: it gives back what it has not begun, and gets nothing more.
        clock_off_s: how much its wall clock is ahead of the broker's.
        ended: jobs that it has brought to an end.
    """

    hello: Hello
    joined_s: float
    heard_s: float
    endpoint: str = ""
    lively: bool = False
    held: dict[str, Job] = field(default_factory=dict)
    beat: Beat | None = None
    leaving: bool = False
    clock_off_s: float = 0.0
    ended: int = 0

    @property
    def credit(self) -> int:
        """Free slots."""
        return self.hello.slots - len(self.held) if self.lively and not self.leaving else 0


@dataclass(frozen=True, slots=True)
class Departed:
    """A worker that is gone, and its last word."""

    hello: Hello
    reason: str
    age_s: float
    left_s: float
    ended: int


class Fleet:
    """All workers, with the freest always at hand."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self.departed: deque[Departed] = deque(maxlen=DEPARTED_LIMIT)
        self.slots = 0
        self._free: list[tuple[int, str]] = []  # (-credit, incarnation), checked when popped
        self._free_by_tag: dict[str, list[tuple[int, str]]] = {}

    def add(self, hello: Hello, now_s: float) -> Worker:
        """Take in a worker; it gets no work before its first beat."""
        worker = Worker(hello, now_s, now_s)
        self.workers[hello.incarnation] = worker
        self.slots += hello.slots
        return worker

    def remove(self, incarnation: str) -> Worker | None:
        """Let a worker go."""
        worker = self.workers.pop(incarnation, None)
        if worker is not None:
            self.slots -= worker.hello.slots
        return worker

    def offer(self, worker: Worker) -> None:
        """Note that a worker's credit has grown."""
        credit = worker.credit
        if credit > 0:
            entry = (-credit, worker.hello.incarnation)
            heapq.heappush(self._free, entry)
            for tag in worker.hello.tags:
                free = self._free_by_tag.setdefault(tag, [])
                heapq.heappush(free, entry)
                if self._stale(free):
                    self._rebuild(free, tag)
        if self._stale(self._free):
            self._rebuild(self._free)

    def freest(self, tag: str = "") -> Worker | None:
        """Return the worker with the most credit (of those with a tag), None when all are full."""
        free = self._free_by_tag.get(tag, []) if tag else self._free
        while free:
            noted, incarnation = free[0]
            worker = self.workers.get(incarnation)
            credit = worker.credit if worker is not None else 0
            if credit > 0 and credit == -noted:
                return worker
            if 0 < credit < -noted:
                heapq.heapreplace(free, (-credit, incarnation))
            else:
                heapq.heappop(free)
        return None

    def free_tags(self) -> list[str]:
        """Return the tags that a worker with credit has; mostly there are none at all."""
        found = []
        for tag in list(self._free_by_tag):
            if self.freest(tag) is not None:
                found.append(tag)
            else:
                del self._free_by_tag[tag]
        return found

    def _stale(self, free: list[tuple[int, str]]) -> bool:
        """Whether most entries must be out of date: those below the top are not looked at."""
        return len(free) > 4 * len(self.workers) + 64

    def _rebuild(self, free: list[tuple[int, str]], tag: str = "") -> None:
        workers = self.workers.items()
        free[:] = [(-w.credit, name) for name, w in workers if not tag or tag in w.hello.tags]
        heapq.heapify(free)

    def depart(self, worker: Worker, reason: str, now_s: float) -> None:
        """Remember a worker's last word, for those who wonder where it went."""
        age_s = now_s - worker.joined_s
        self.departed.append(Departed(worker.hello, reason, age_s, now_s, worker.ended))

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

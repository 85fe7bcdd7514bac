"""The waiting line: ready jobs by rank, delayed jobs by time, and the tail that stays on disk.

A million waiting jobs do not fit in memory, so the line holds a window of the lowest ranks; jobs
past its `horizon` are only in the journal and are loaded when the window runs low.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from imgserve.broker.job import Job
from imgserve.broker.states import Phase

TAGGED_LIMIT: Final = 100_000
"""Jobs with a tag that may wait: they stay in memory, for those that lie on disk are found by rank
alone, and a tag without a worker must not hold up what comes after it."""

Key = tuple[float, str]
Entry = tuple[float, str, int]
FIRST: Final[Key] = (float("-inf"), "")


class Line:
    """Jobs in phase QUEUED.

    Args:
        window: jobs in memory after a spill; twice as many are held before one.
        jobs: every stored, unfinished job in memory, by id; spilled jobs leave it.
    """

    def __init__(self, *, window: int, jobs: dict[str, Job]) -> None:
        self._window = window
        self._jobs = jobs
        self._ready: list[Entry] = []
        self._tagged: dict[str, list[Entry]] = {}
        self._delayed: list[Entry] = []
        self._stamp = 0
        self.tagged_count = 0
        self.ready_count = 0
        self.delayed_count = 0
        self.on_disk = 0
        self.horizon: Key | None = None  # None: everything is in memory
        self.loading = False
        self._overtaken = False

    def __len__(self) -> int:
        return self.ready_count + self.tagged_count + self.delayed_count + self.on_disk

    def belongs_on_disk(self, job: Job) -> bool:
        """Whether a job newly stored lies past the horizon; it is then counted, not held."""
        past = self.horizon is not None and (job.rank, job.job_id) > self.horizon
        return past and not job.tag

    def add(self, job: Job) -> None:
        """Put a job in the line, ready to go."""
        self._stamp += 1
        job.stamp = self._stamp
        if job.tag:
            tagged = self._tagged.setdefault(job.tag, [])
            heapq.heappush(tagged, (job.rank, job.job_id, job.stamp))
            self.tagged_count += 1
            return
        heapq.heappush(self._ready, (job.rank, job.job_id, job.stamp))
        self.ready_count += 1
        if self.ready_count > 2 * self._window:
            self._spill()

    def delay(self, job: Job, until_s: float) -> None:
        """Put a job in the line, ready at a time."""
        self._stamp += 1
        job.stamp = self._stamp
        heapq.heappush(self._delayed, (until_s, job.job_id, job.stamp))
        self.delayed_count += 1

    def wake(self, now_s: float) -> None:
        """Make the delayed jobs ready whose time has come."""
        while self._delayed and self._delayed[0][0] <= now_s:
            _, job_id, stamp = heapq.heappop(self._delayed)
            job = self._valid(job_id, stamp)
            if job is not None:
                self.delayed_count -= 1
                self.add(job)

    def pop(self, tags: Iterable[str] = ()) -> Job | None:
        """Take the ready job of the lowest rank.

        Args:
            tags: those whose jobs may be taken besides the jobs without a tag.
        """
        best = self._head(self._ready)
        for tag in tags:
            head = self._head(self._tagged.get(tag, []))
            if head is not None and (best is None or head < best):
                best = head
        if best is None:
            return None
        job = self._jobs[best[1]]
        if job.tag:
            heapq.heappop(self._tagged[job.tag])
            self.tagged_count -= 1
        else:
            heapq.heappop(self._ready)
            self.ready_count -= 1
        job.stamp = 0
        return job

    def waiting_by_tag(self) -> dict[str, int]:
        """Count the ready jobs of each tag; the lists are short, but for the stale in them."""
        for tag in [tag for tag, entries in self._tagged.items() if self._head(entries) is None]:
            del self._tagged[tag]
        return {tag: len(entries) for tag, entries in self._tagged.items()}

    def take_from_disk(self) -> None:
        """Count a job that comes into memory otherwise than by a load."""
        self.on_disk = max(0, self.on_disk - 1)

    def remove(self, job: Job) -> None:
        """Take this job out; its heap entry goes stale and is dropped when it surfaces."""
        if any(stamp == job.stamp for _, _, stamp in self._delayed):
            self.delayed_count -= 1
        elif job.tag:
            self.tagged_count -= 1
        else:
            self.ready_count -= 1
        job.stamp = 0

    @property
    def wants_load(self) -> bool:
        """Whether the window is low and the journal may hold more.

        The horizon tells, not the count: a job that is on disk and in memory (a retried one) is
        counted twice at times, and a count of zero must not leave a job on disk for good.
        """
        low = self.ready_count <= self._window // 2
        return self.horizon is not None and not self.loading and low

    def loaded(self, jobs: list[Job], *, limit: int) -> None:
        """Take what the journal gave for a load of at most limit jobs after the horizon."""
        self.loading = False
        if self._overtaken:
            # Jobs were spilled since it was asked for: it may lack them, or hold them as they were
            # before their last update. The next load begins at the new horizon.
            self._overtaken = False
            return
        if jobs and len(jobs) == limit:
            self.horizon = (jobs[-1].rank, jobs[-1].job_id)
            self.on_disk = max(self.on_disk - len(jobs), 1)
        else:
            self.horizon = None
            self.on_disk = 0
        for job in jobs:
            if job.job_id not in self._jobs:  # a retried job is here already
                self._jobs[job.job_id] = job
                self.add(job)

    def _head(self, entries: list[Entry]) -> Entry | None:
        """Return the first entry that still stands, dropping stale ones before it."""
        while entries:
            if self._valid(entries[0][1], entries[0][2]) is not None:
                return entries[0]
            heapq.heappop(entries)
        return None

    def _valid(self, job_id: str, stamp: int) -> Job | None:
        job = self._jobs.get(job_id)
        return job if job is not None and job.stamp == stamp and job.phase is Phase.QUEUED else None

    def _spill(self) -> None:
        """Leave all but the window to the journal, where every one of these jobs stands."""
        entries = sorted(entry for entry in self._ready if self._valid(entry[1], entry[2]))
        self._ready, dropped = entries[: self._window], entries[self._window :]
        for _, job_id, _ in dropped:
            del self._jobs[job_id]
        last = self._ready[-1]
        # Never further than it was: retried jobs past it are in memory, but what lies on disk
        # between it and them is not.
        key = (last[0], last[1])
        self.horizon = key if self.horizon is None else min(key, self.horizon)
        self.ready_count = len(self._ready)
        self.on_disk += len(dropped)
        self._overtaken = self.loading

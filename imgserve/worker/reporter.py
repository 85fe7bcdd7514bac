"""Reports on their way to the broker: numbered, and said again until acknowledged.

Pure: the caller sends what is due.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from imgserve.protocol.reports import JobReports

FIRST_WAIT_S: Final = 1.0
"""Far longer than a broker's commit to disk, so that hardly a report is sent twice."""

LONGEST_WAIT_S: Final = 8.0
"""A broker that takes longer has most likely ended the incarnation anyway."""


@dataclass(slots=True)
class _Unacknowledged:
    report: JobReports
    due_s: float
    wait_s: float


class Outbox:
    """Holds every report that the broker has not acknowledged.

    A job has at most an acceptance and a final report here. The broker gives a slot back when it
    has heard the final one and acknowledges it when it is on disk, so the worker's slots and what
    the broker's journal has in hand bound the number.
    """

    def __init__(self) -> None:
        self._last_seq = 0
        self._waiting: dict[int, _Unacknowledged] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def next_seq(self) -> int:
        """Give the next number; beats are numbered from here too."""
        self._last_seq += 1
        return self._last_seq

    def add(self, report: JobReports, now_s: float) -> None:
        """Keep a report that was just sent for the first time."""
        self._waiting[report.seq] = _Unacknowledged(report, now_s + FIRST_WAIT_S, FIRST_WAIT_S)

    def acknowledge(self, seqs: Iterable[int]) -> list[JobReports]:
        """Forget what the broker has, and return it; other numbers change nothing."""
        found = (self._waiting.pop(seq, None) for seq in seqs)
        return [entry.report for entry in found if entry is not None]

    def due(self, now_s: float) -> list[JobReports]:
        """Give the reports to send again now, oldest first; each waits twice as long next time."""
        late = [entry for entry in self._waiting.values() if entry.due_s <= now_s]
        for entry in late:
            entry.wait_s = min(2 * entry.wait_s, LONGEST_WAIT_S)
            entry.due_s = now_s + entry.wait_s
        return [entry.report for entry in late]

    def forget(self, job_id: str) -> None:
        """Drop the reports of a job whose attempt no longer counts."""
        for seq in [seq for seq, entry in self._waiting.items() if entry.report.job_id == job_id]:
            del self._waiting[seq]

    @property
    def next_due_s(self) -> float:
        """When something is due next; infinity where nothing waits."""
        return min((entry.due_s for entry in self._waiting.values()), default=float("inf"))

"""A worker of the model: what it holds, what it has not been told yet, and its own lease.

It keeps the rules of imgserve/worker, without its work: nothing is begun before a beat was
acknowledged, nothing uploaded without a valid lease, a job is listed until its end is acknowledged.
The lease is the real one; the worker's clock runs slow, as clocks do.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from imgserve.protocol import lane, reports
from imgserve.worker.lease import Lease

CLOCK_RATE = 0.9


@dataclass
class Attempt:
    """One attempt at one job.

    Args:
        accepted: an earlier attempt was accepted, or this one has uploaded its placeholder.
        reported: its end was reported: it uploads nothing more.
    """

    number: int
    accepted: bool
    verdict: int
    cancelled: bool = False
    reported: bool = False


@dataclass
class ModelWorker:
    """One worker through its incarnations.

    Args:
        unacknowledged: reports to say again, by number.
        inbox: what is on its lane, in order.
    """

    name: str
    life: int = 0
    alive: bool = False
    epoch: str = ""
    lease: Lease | None = None
    held: dict[str, Attempt] = field(default_factory=dict)
    unacknowledged: dict[int, reports.JobReports] = field(default_factory=dict)
    inbox: list[lane.LaneMessage] = field(default_factory=list)
    seq: int = 0

    @property
    def incarnation(self) -> str:
        """The name of its present life."""
        return f"{self.name}.{self.life}"

    def valid(self, now_s: float) -> bool:
        """Whether it may upload now."""
        return (
            self.alive
            and self.lease is not None
            and self.lease.confirmed
            and self.lease.valid(now_s * CLOCK_RATE)
        )

    def die(self) -> None:
        """End this life: what it held is forgotten."""
        self.alive = False
        self.held, self.unacknowledged, self.inbox = {}, {}, []

    def rejoin(self, epoch: str, lease_s: float, now_s: float) -> None:
        """Begin a new life, as after its welcome."""
        self.die()
        self.life += 1
        self.alive, self.epoch, self.seq = True, epoch, 0
        self.lease = Lease(lease_s, now_s=now_s * CLOCK_RATE)

    def beat(self, now_s: float) -> reports.Beat:
        """Beat: list what it holds."""
        self.seq += 1
        assert self.lease is not None
        self.lease.sent(self.seq, now_s * CLOCK_RATE)
        running = tuple((job_id, each.number) for job_id, each in self.held.items())
        return reports.Beat(self.incarnation, self.epoch, self.seq, running, (), {})

    def report(self, kind: type, job_id: str, **fields: object) -> reports.JobReports:
        """Report on a job; ends are reported once, acceptances too."""
        self.seq += 1
        attempt = self.held[job_id]
        attempt.reported = kind is not reports.Accepted
        message: reports.JobReports = kind(
            self.incarnation, self.epoch, self.seq, job_id, attempt.number, **fields
        )
        self.unacknowledged[self.seq] = message
        return message

    def hear(self, message: lane.LaneMessage) -> list[reports.JobReports]:
        """Take a message off the lane; return final reports that it acknowledged."""
        if message.epoch != self.epoch or self.lease is None:
            return []
        if isinstance(message, lane.Job):
            self._take(message)
        elif isinstance(message, lane.CancelJob):
            attempt = self.held.get(message.job_id)
            if attempt is not None and attempt.number == message.attempt:
                attempt.cancelled = True
        elif isinstance(message, lane.Ack):
            self.lease.acknowledged(message.seqs)
            known = [self.unacknowledged.pop(seq, None) for seq in message.seqs]
            ended = [each for each in known if each and not isinstance(each, reports.Accepted)]
            for report in ended:
                self._let_go(report.job_id, report.attempt)
            return ended
        return []

    def _take(self, job: lane.Job) -> None:
        held = self.held.get(job.job_id)
        if held is not None:
            if held.number >= job.attempt:
                return
            self._let_go(job.job_id, held.number)
        self.held[job.job_id] = Attempt(job.attempt, job.accepted or job.verdict != 0, job.verdict)

    def _let_go(self, job_id: str, number: int) -> None:
        held = self.held.get(job_id)
        if held is not None and held.number == number:
            del self.held[job_id]
            for seq in [s for s, each in self.unacknowledged.items() if each.job_id == job_id]:
                del self.unacknowledged[seq]

    def clone(self) -> ModelWorker:
        """Copy it; messages are shared, since they never change."""
        twin = ModelWorker(self.name, self.life, self.alive, self.epoch, seq=self.seq)
        if self.lease is not None:
            twin.lease = copy.copy(self.lease)
            twin.lease._sent = dict(self.lease._sent)
        twin.held = {job_id: copy.copy(each) for job_id, each in self.held.items()}
        twin.unacknowledged = dict(self.unacknowledged)
        twin.inbox = list(self.inbox)
        return twin

    def key(self, now_s: float) -> tuple[object, ...]:
        """What tells one state from another; times are relative, numbers are named."""
        lease = self.lease
        clock_s = now_s * CLOCK_RATE
        left_s = round(max(lease.expires_at_s - clock_s, 0), 3) if lease and self.alive else 0
        return (
            self.life,
            self.alive,
            self.epoch,
            left_s,
            lease is not None and lease.confirmed,
            tuple(
                (job_id, each.number, each.accepted, each.verdict, each.cancelled, each.reported)
                for job_id, each in sorted(self.held.items())
            ),
            tuple(map(_name, self.unacknowledged.values())),
            tuple(self._lane_name(message, clock_s) for message in self.inbox),
        )

    def _lane_name(self, message: lane.LaneMessage, clock_s: float) -> tuple[object, ...]:
        if not isinstance(message, lane.Ack):
            return message.KIND, message.epoch, message.job_id, message.attempt
        names: list[object] = []
        for seq in message.seqs:
            if seq in self.unacknowledged:
                names.append(_name(self.unacknowledged[seq]))
            elif self.lease is not None and seq in self.lease._sent:
                names.append(round(clock_s - self.lease._sent[seq], 3))
        return ("ack", message.epoch, *names)


def _name(report: reports.JobReports) -> tuple[object, ...]:
    reason = getattr(report, "reason", "")
    return report.KIND, report.incarnation, report.epoch, report.job_id, report.attempt, reason


def name_of(report: reports.ReportsMessage, now_s: float, worker: ModelWorker) -> object:
    """Name a report under way, without its number."""
    if isinstance(report, reports.Beat):
        sent = worker.lease._sent.get(report.seq) if worker.lease is not None else None
        age_s = round(now_s * CLOCK_RATE - sent, 3) if sent is not None else -1
        return report.incarnation, report.running, age_s
    return _name(report)  # type: ignore[arg-type]

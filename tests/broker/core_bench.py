"""A core on a bench: one call a message, with a journal that commits when it is told to."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from imgserve.broker import actions as act
from imgserve.broker.core import Core
from imgserve.broker.job import Row
from imgserve.broker.policy import Policy
from imgserve.protocol import jobs, lane, reports
from imgserve.protocol.events import JobState, Refused

EPOCH = "e1"
TOPIC = "gateway"


@dataclass
class JournalModel:
    """What is on disk, and what waits for a commit."""

    rows: dict[str, Row] = field(default_factory=dict)
    pending: deque[object] = field(default_factory=deque)

    def commit(self) -> list[object]:
        """Commit all that waits, as `imgserve.broker.journal` does; return the events."""
        batch, self.pending = list(self.pending), deque()
        new = {}
        for entry in batch:
            if isinstance(entry, act.Append):
                new[entry.row.job_id] = entry.row.job_id not in self.rows
                self.rows.setdefault(entry.row.job_id, entry.row)
        updates = {each.row.job_id: each for each in batch if isinstance(each, act.Update)}
        finishes = {each.row.job_id: each.row for each in batch if isinstance(each, act.Finish)}
        for entry in updates.values():
            row = entry.row
            self.rows[row.job_id] = self.rows[row.job_id]._replace(
                submitter=row.submitter, progress=row.progress
            )
        self.rows.update(finishes)
        events: list[object] = []
        if new:
            existing = ((key, None if is_new else self.rows[key]) for key, is_new in new.items())
            events.append(act.Appended(tuple(existing)))
        if updates:
            versions = ((key, entry.version) for key, entry in updates.items())
            events.append(act.Updated(tuple(versions)))
        if finishes:
            events.append(act.Finished(tuple(finishes)))
        return events + [self._read(each) for each in batch if _is_question(each)]

    def _read(self, question: object) -> object:
        if isinstance(question, act.LookUp):
            rows = tuple(self.rows[key] for key in question.job_ids if key in self.rows)
            return act.LookedUp(question.job_ids, rows, question.asker, question.purpose)
        assert isinstance(question, act.Load)
        waiting = [row for row in self.rows.values() if row.state == "queued"]
        later = sorted((r for r in waiting if (r.rank, r.job_id) > question.after), key=_key)
        return act.Loaded(tuple(later[: question.limit]), question.limit)


def _key(row: Row) -> tuple[float, str]:
    return row.rank, row.job_id


def _is_question(entry: object) -> bool:
    return isinstance(entry, act.LookUp | act.Load)


class Bench:
    """Drives a core: every method is one thing that happens, answered by what the core does."""

    def __init__(
        self,
        *,
        rows: dict[str, Row] | None = None,
        awaited: dict[str, float] | None = None,
        **policy: float,
    ) -> None:
        self.journal = JournalModel(dict(rows or {}))
        waiting = sum(row.state == "queued" for row in self.journal.rows.values())
        self.core = Core(
            policy=Policy(**policy),  # type: ignore[arg-type]
            epoch=EPOCH,
            waiting_on_disk=waiting,
            awaited=awaited,
        )
        self.now_s = 100.0
        self.said: list[tuple[str, object]] = []
        self.sent: list[tuple[str, lane.LaneMessage]] = []
        self.closed: list[str] = []
        self._seq = 0

    # --- what happens

    def feed(self, event: object) -> list[act.Action]:
        """Give the core one event and carry out what it asks for; the journal waits."""
        actions = self.core.handle(event, self.now_s)
        for action in actions:
            self._perform(action)
        return actions

    def commit(self) -> None:
        """Let the journal commit until nothing waits, then flush acknowledgements."""
        while self.journal.pending:
            for event in self.journal.commit():
                self.feed(event)
        self.flush()

    def flush(self) -> None:
        """Send the acknowledgements that are due."""
        for action in self.core.flush():
            self._perform(action)

    def _perform(self, action: act.Action) -> None:
        if isinstance(action, act.Say):
            self.said.append((action.topic, action.message))
        elif isinstance(action, act.Send):
            self.sent.append((action.incarnation, action.message))
        elif isinstance(action, act.OpenLane):
            name = action.hello.incarnation
            self.feed(act.LaneOpened(name, f"tcp://127.0.0.1/{name}"))
        elif isinstance(action, act.CloseLane):
            self.closed.append(action.incarnation)
        else:
            self.journal.pending.append(action)

    def submit(
        self,
        job_id: str,
        *,
        payload: bytes = b"{}",
        topic: str = TOPIC,
        priority: int = 0,
        commit: bool = True,
    ) -> None:
        """Submit a job."""
        self.feed(jobs.Submit(job_id, topic, priority, payload))
        if commit:
            self.commit()

    def cancel(self, job_id: str, *, topic: str = TOPIC, commit: bool = True) -> None:
        """Cancel a job."""
        self.feed(jobs.Cancel(job_id, topic))
        if commit:
            self.commit()

    def join(self, name: str, *, slots: int = 1, former: tuple[str, ...] = ()) -> None:
        """Let a worker say hello and beat once."""
        self.feed(reports.Hello(name, "host", 1, slots, "1", (), (), former))
        self.beat(name)

    def beat(self, name: str, running: tuple[tuple[str, int], ...] = ()) -> int:
        """Let a worker beat; return the beat's number."""
        seq = self.next_seq()
        self.feed(reports.Beat(name, EPOCH, seq, running, (), {}))
        return seq

    def report(self, kind: type, name: str, job_id: str, attempt: int = 1, **fields: object) -> int:
        """Let a worker report; return the report's number."""
        seq = self.next_seq()
        epoch = fields.pop("epoch", EPOCH)
        self.feed(kind(name, epoch, seq, job_id, attempt, **{**FIELDS[kind], **fields}))
        return seq

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        self.feed(act.Tick())

    def next_seq(self) -> int:
        """Return a fresh number for a report."""
        self._seq += 1
        return self._seq

    # --- what can be seen

    def states(self, job_id: str, topic: str = TOPIC) -> list[str]:
        """The states said of a job on a topic, in order."""
        return [
            str(message.state)
            for heard_on, message in self.said
            if heard_on == topic and isinstance(message, JobState) and message.job_id == job_id
        ]

    def last(self, job_id: str, topic: str = TOPIC) -> JobState:
        """The last state said of a job."""
        return [
            message
            for heard_on, message in self.said
            if heard_on == topic and isinstance(message, JobState) and message.job_id == job_id
        ][-1]

    def refusals(self, topic: str = TOPIC) -> list[tuple[str, str]]:
        """What was refused on a topic: job id and reason."""
        return [
            (message.job_id, str(message.reason))
            for heard_on, message in self.said
            if heard_on == topic and isinstance(message, Refused)
        ]

    def orders(self, name: str) -> list[tuple[str, int]]:
        """Job id and attempt of every job sent to a worker."""
        return [(m.job_id, m.attempt) for to, m in self.sent if to == name and is_job(m)]

    def order(self, name: str) -> lane.Job:
        """The last job sent to a worker."""
        return [m for to, m in self.sent if to == name and isinstance(m, lane.Job)][-1]

    def acks(self, name: str) -> set[int]:
        """The numbers acknowledged to a worker."""
        acks = [m for to, m in self.sent if to == name and isinstance(m, lane.Ack)]
        return {seq for message in acks for seq in message.seqs}


def is_job(message: lane.LaneMessage) -> bool:
    """Tell whether a lane's message is a job."""
    return isinstance(message, lane.Job)


FIELDS: dict[type, dict[str, object]] = {
    reports.Accepted: {"dst_url": "http://d/1.png"},
    reports.Done: {
        "dst_url": "http://d/1.png",
        "width_px": 2,
        "height_px": 3,
        "size_bytes": 4,
        "seconds": {"total": 0.5},
    },
    reports.Rejected: {"code": 203, "detail": "too small"},
    reports.Failed: {"code": 401, "detail": "broken"},
    reports.Returned: {"code": 201, "detail": "timed out", "reason": "transient", "delay_s": 0.0},
}

"""One job as the broker knows it, and its row in the journal."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgpack

from imgserve.broker.states import Happening, Phase, step
from imgserve.protocol import lane
from imgserve.protocol.codec import pack
from imgserve.protocol.events import JobState, State
from imgserve.protocol.reports import Done

SUBMITTERS_LIMIT: Final = 4
"""Topics that hear of one job: a resubmit from another gateway joins, the oldest leaves."""

COMPRESSED_FROM_BYTES: Final = 2048
COMPRESSED: Final = b"\0"
"""Begins what is compressed: neither JSON nor a msgpack array begins so."""

REASONS_LIMIT: Final = 20
"""Ends of earlier attempts that are kept with a job."""


class Row(NamedTuple):
    """A job in the journal.

    `submitter` holds its topics with spaces between; `progress` is msgpack that only this module
    reads.
    """

    job_id: str
    submitter: str
    priority: int
    rank: float
    digest: bytes
    state: str
    progress: bytes
    payload: bytes


@dataclass(slots=True)
class Job:
    """A job in memory.

    Args:
        rank: wall-clock seconds of its submit, less what its priority is worth: lowest goes first.
        digest: of the payload, to tell the same job from another with its id.
        attempt: counts dispatches, for fencing; attempts: those that count against the job.
        accepted: some attempt was accepted: the placeholder is up.
        touched: an attempt was lost that may have put a placeholder up, or even a result.
        tag: only a worker with it may do the job; empty: any worker.
        version: counts the updates given to the journal.
        unsaid: the update that holds the acceptance, until it is on disk and was said; else 0.
        verdict: a code to end with once the failure placeholder is up; 0: work on.
        state: the terminal state, once ending.
    """

    job_id: str
    submitters: tuple[str, ...]
    priority: int
    rank: float
    digest: bytes
    payload: bytes
    tag: str = ""
    phase: Phase = Phase.STORING
    attempt: int = 0
    attempts: int = 0
    retries: int = 0
    crashes: int = 0
    accepted: bool = False
    touched: bool = False
    version: int = 0
    unsaid: int = 0
    cancelled: bool = False
    verdict: int = 0
    dst_url: str = ""
    state: State | None = None
    code: int = 0
    detail: str = ""
    reasons: tuple[str, ...] = ()
    seconds: Mapping[str, float] | None = None
    width_px: int = 0
    height_px: int = 0
    size_bytes: int = 0
    warnings: tuple[tuple[str, str], ...] = ()
    incarnation: str = ""
    sent_s: float = 0.0
    final_seq: int = 0
    stamp: int = field(default=0, compare=False)

    def visible_state(self) -> State:
        """The state that submitters see; once said accepted it never looks queued again."""
        if self.phase is Phase.ENDED and self.state is not None:
            return self.state
        if self.accepted and not self.unsaid:
            return State.ACCEPTED
        return State.QUEUED if self.phase in (Phase.STORING, Phase.QUEUED) else State.DISPATCHED

    @property
    def placed(self) -> bool:
        """Whether something may stand at the destination that must not stay there."""
        return self.accepted or self.touched

    def add_submitter(self, topic: str) -> None:
        """Let one more topic hear of this job."""
        if topic not in self.submitters:
            self.submitters = (*self.submitters[-SUBMITTERS_LIMIT + 1 :], topic)

    def add_reason(self, reason: str) -> None:
        """Keep why an attempt ended."""
        sentence = f"attempt {self.attempt}: {reason}"[:500]
        self.reasons = (*self.reasons[-REASONS_LIMIT + 1 :], sentence)

    def order(self, epoch: str) -> lane.Job:
        """Return what tells a worker to do the present attempt."""
        detail = self.detail if self.verdict else ""
        return lane.Job(
            epoch,
            self.job_id,
            self.attempt,
            self.payload,
            self.accepted,
            self.touched,
            self.verdict,
            detail,
        )

    def cancel_order(self, epoch: str) -> lane.CancelJob:
        """Return what tells a worker to stop the present attempt."""
        return lane.CancelJob(epoch, self.job_id, self.attempt)

    def end(self, state: State, code: int, detail: str) -> None:
        """Settle on a terminal state, which is not on disk yet."""
        self.phase = step(self.phase, Happening.END)
        self.state, self.code, self.detail = state, code, detail

    def take_result(self, report: Done) -> None:
        """Keep what a worker says of the result."""
        self.dst_url = report.dst_url
        self.width_px, self.height_px = report.width_px, report.height_px
        self.size_bytes, self.seconds = report.size_bytes, report.seconds
        self.warnings = report.warnings

    def event(self, epoch: str, seq: int, state: State | None = None) -> JobState:
        """Return the event that says the job's state (or an earlier one) on one topic."""
        # By position: thirteen names for each of three events are a tenth of the broker's work.
        shown = state or self.visible_state()
        if not shown.terminal:
            url = self.dst_url if shown is State.ACCEPTED else ""
            return JobState(epoch, seq, self.job_id, shown, url, 0, "", self.attempts, self.reasons)
        return JobState(
            epoch,
            seq,
            self.job_id,
            shown,
            self.dst_url,
            self.code,
            self.detail,
            self.attempts,
            self.reasons,
            self.seconds,
            self.width_px,
            self.height_px,
            self.size_bytes,
            self.warnings,
        )


_PROGRESS: Final = (
    "attempt",
    "attempts",
    "retries",
    "crashes",
    "accepted",
    "cancelled",
    "verdict",
    "dst_url",
    "code",
    "detail",
    "reasons",
    "seconds",
    "width_px",
    "height_px",
    "size_bytes",
    "tag",
    "touched",
    "warnings",
)
"""What of a job outlives the broker; later versions may add names at the end."""

_progress_of: Final = attrgetter(*_PROGRESS)
_FRESH: Final[bytes] = pack(())


def row_of(job: Job) -> Row:
    """Return the row that stands for the job now; a job that ended well keeps no payload."""
    fresh = not (job.attempt or job.state or job.cancelled or job.tag)
    progress = _FRESH if fresh else pack(_progress_of(job))
    keep = job.state is None or job.state is State.FAILED
    return Row(
        job.job_id,
        " ".join(job.submitters),
        job.priority,
        job.rank,
        job.digest,
        job.state or State.QUEUED,
        _packed(progress),
        _packed(job.payload) if keep else b"",
    )


def _packed(data: bytes) -> bytes:
    """Compress what is long: URLs of tens of kilobytes, which few jobs have."""
    if len(data) < COMPRESSED_FROM_BYTES:
        return data
    return COMPRESSED + zlib.compress(data, 1)


def _unpacked(data: bytes) -> bytes:
    return zlib.decompress(data[1:]) if data[:1] == COMPRESSED else data


def job_of(row: Row, *, doubtful: bool = False) -> Job:
    """Return the job of a row: waiting, or ended with its terminal state.

    Args:
        row: of the journal.
        doubtful: a worker of a former life may have begun it, and nobody wrote that down.
    """
    # Not strict: what an earlier version wrote has fewer names.
    values = msgpack.unpackb(_unpacked(row.progress), use_list=False)
    progress: dict[str, Any] = dict(zip(_PROGRESS, values, strict=False))
    state = State(row.state)
    if doubtful and not state.terminal:
        progress["touched"] = True
    return Job(
        job_id=row.job_id,
        submitters=tuple(row.submitter.split(" ")),
        priority=row.priority,
        rank=row.rank,
        digest=row.digest,
        payload=_unpacked(row.payload),
        phase=Phase.ENDED if state.terminal else Phase.QUEUED,
        state=state if state.terminal else None,
        **progress,
    )

"""What the broker says to everyone, on the events socket, each under a topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Final

from imgserve.errors import ProtocolError
from imgserve.protocol import checks

BEAT_TOPIC: Final = "beat"
STATS_TOPIC: Final = "stats"


class State(StrEnum):
    """Where a job is, as submitters see it."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether a job in this state stays in it for good."""
        return self in TERMINAL


STATES: Final = frozenset(State)
TERMINAL: Final = frozenset({State.DONE, State.FAILED, State.REJECTED, State.CANCELLED})


@dataclass(slots=True)
class Welcome:
    """To a worker, on the topic of its incarnation: its lane is open.

    Args:
        endpoint: where to connect; a wildcard host means the host of the events socket.
        lease_s: silence after which the broker gives its jobs away.
        beat_s: how often to beat.
    """

    KIND: ClassVar = "welcome"
    epoch: str
    incarnation: str
    endpoint: str
    lease_s: float
    beat_s: float

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.identifier("incarnation", self.incarnation)
        checks.text("endpoint", self.endpoint, 512)
        checks.number("lease_s", self.lease_s)
        checks.number("beat_s", self.beat_s)


@dataclass(slots=True)
class TurnedAway:
    """To a worker, on the topic of its incarnation: it gets no lane, or has lost it.

    Args:
        final: true: do not come back like this (another protocol version, no lane left);
            false: this incarnation is over, say hello with a fresh one.
    """

    KIND: ClassVar = "turned_away"
    epoch: str
    incarnation: str
    final: bool
    reason: str

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.identifier("incarnation", self.incarnation)
        checks.boolean("final", self.final)
        checks.text("reason", self.reason)


@dataclass(slots=True)
class JobState:
    """A job's state, to those who submitted it or asked for it.

    Args:
        epoch, seq: seq counts the events of one topic in one epoch from 1; a gap means loss.
        state: see `State`.
        dst_url: the final dstURL once accepted, else empty.
        code, detail: why it was rejected, failed or cancelled; else 0 and empty.
        attempts: dispatches counted against the job.
        reasons: why earlier attempts ended, oldest first.
        seconds: stage -> seconds, once done.
        width_px, height_px, size_bytes: the result's, once done; else 0.
        warnings: [name, detail] of what was not drawn or not kept, once done.
    """

    KIND: ClassVar = "state"
    epoch: str
    seq: int
    job_id: str
    state: str
    dst_url: str = ""
    code: int = 0
    detail: str = ""
    attempts: int = 0
    reasons: tuple[str, ...] = ()
    seconds: Mapping[str, float] | None = None
    width_px: int = 0
    height_px: int = 0
    size_bytes: int = 0
    warnings: tuple[tuple[str, str], ...] = field(default=(), metadata=checks.LATER)

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.integer("seq", self.seq)
        checks.identifier("job_id", self.job_id)
        if self.state not in STATES:
            raise ProtocolError("state is not a job's state")
        checks.text("dst_url", self.dst_url, checks.URL_LIMIT_CHARS)
        checks.integer("code", self.code, 0, 999)
        checks.text("detail", self.detail)
        checks.integer("attempts", self.attempts)
        checks.texts("reasons", self.reasons)
        if self.seconds is not None:
            checks.numbers("seconds", self.seconds)
        checks.integer("width_px", self.width_px)
        checks.integer("height_px", self.height_px)
        checks.integer("size_bytes", self.size_bytes)
        checks.warnings("warnings", self.warnings)


class Refusal(StrEnum):
    """Why the broker has no state to say for a job."""

    CONFLICT = "conflict"  # the id was used with another payload
    OVERLOADED = "overloaded"  # the queue or the disk is full: submit again later
    DRAINING = "draining"  # the service is going down: submit again later
    UNKNOWN = "unknown"  # asked for, but never heard of or forgotten: submit it again


REFUSALS: Final = frozenset(Refusal)


@dataclass(slots=True)
class Refused:
    """The broker did not take a job, or does not know it; see `Refusal`."""

    KIND: ClassVar = "refused"
    epoch: str
    seq: int
    job_id: str
    reason: str
    detail: str

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.integer("seq", self.seq)
        checks.identifier("job_id", self.job_id)
        if self.reason not in REFUSALS:
            raise ProtocolError("reason is not conflict, overloaded, draining or unknown")
        checks.text("detail", self.detail)


@dataclass(slots=True)
class BrokerBeat:
    """The broker lives: on topic `beat`, once every interval_s.

    Args:
        full: it takes no jobs now: its queue or its disk is full, or it is going down.
    """

    KIND: ClassVar = "broker_beat"
    epoch: str
    interval_s: float
    full: bool

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.number("interval_s", self.interval_s)
        checks.boolean("full", self.full)


@dataclass(slots=True)
class Stats:
    """The broker's figures: on topic `stats` every interval, and to who asked for them.

    Args:
        figures: counts, gauges, histograms and the table of workers; docs/protocol.md lists them.
    """

    KIND: ClassVar = "stats"
    epoch: str
    figures: Mapping[str, Any]

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.document("figures", self.figures)


@dataclass(slots=True)
class DeadLetters:
    """The answer to `dead`.

    Args:
        letters: maps with id, code, detail, attempts, reasons, finished_s and, for `show`, payload.
        detail: what was done, or why not.
    """

    KIND: ClassVar = "dead_letters"
    epoch: str
    letters: tuple[Mapping[str, Any], ...]
    detail: str

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        for letter in checks.items("letters", self.letters):
            checks.document("letters", letter)
        checks.text("detail", self.detail)


EventsMessage = Welcome | TurnedAway | JobState | Refused | BrokerBeat | Stats | DeadLetters

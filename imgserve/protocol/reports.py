"""What workers say to the broker, on the reports socket.

A report on a job names epoch, incarnation, job and attempt, so that a report from a former life
changes nothing. Its seq, unique in the incarnation, is what the broker acknowledges on the lane;
until then the worker says it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final

from imgserve.errors import ProtocolError
from imgserve.protocol import checks


@dataclass(slots=True)
class Hello:
    """A worker wants a lane; repeated until `welcome` is heard.

    Args:
        incarnation: a fresh id for this life of the worker; also its topic.
        host, pid, version: who it is, for `status`.
        slots: how many jobs it takes at once: its credit.
        pixel_pids: its pixel processes.
        tags: what it offers jobs that ask for it.
        former: incarnations that this process was before, and of which nothing runs any more.
    """

    KIND: ClassVar = "hello"
    incarnation: str
    host: str
    pid: int
    slots: int
    version: str
    pixel_pids: tuple[int, ...]
    tags: tuple[str, ...] = field(default=(), metadata=checks.LATER)
    former: tuple[str, ...] = field(default=(), metadata=checks.LATER)

    def __post_init__(self) -> None:
        checks.identifier("incarnation", self.incarnation)
        checks.text("host", self.host, 256)
        checks.integer("pid", self.pid)
        checks.integer("slots", self.slots, 1, checks.LIST_LIMIT)
        checks.text("version", self.version, 64)
        checks.integers("pixel_pids", self.pixel_pids)
        checks.tags("tags", self.tags)
        checks.tags("former", self.former)


@dataclass(slots=True)
class Beat:
    """A worker lives. The broker's ack of its seq renews the worker's own lease.

    Args:
        running: [job id, attempt] of every job it holds.
        pixel_pids: its pixel processes now.
        vitals: figures for `status`: cpu_s, rss_bytes, ….
    """

    KIND: ClassVar = "beat"
    incarnation: str
    epoch: str
    seq: int
    running: tuple[tuple[str, int], ...]
    pixel_pids: tuple[int, ...]
    vitals: Mapping[str, float]

    def __post_init__(self) -> None:
        checks.identifier("incarnation", self.incarnation)
        checks.identifier("epoch", self.epoch)
        checks.integer("seq", self.seq)
        checks.attempts("running", self.running)
        checks.integers("pixel_pids", self.pixel_pids)
        checks.numbers("vitals", self.vitals)


@dataclass(slots=True)
class JobReport:
    """What every report on a job carries."""

    incarnation: str
    epoch: str
    seq: int
    job_id: str
    attempt: int

    def __post_init__(self) -> None:
        checks.identifier("incarnation", self.incarnation)
        checks.identifier("epoch", self.epoch)
        checks.integer("seq", self.seq)
        checks.identifier("job_id", self.job_id)
        checks.integer("attempt", self.attempt)


@dataclass(slots=True)
class Accepted(JobReport):
    """The source is good and the placeholder is in place at dst_url."""

    KIND: ClassVar = "accepted"
    dst_url: str

    def __post_init__(self) -> None:
        JobReport.__post_init__(self)
        checks.text("dst_url", self.dst_url, checks.URL_LIMIT_CHARS)


@dataclass(slots=True)
class Verdict(JobReport):
    """A report that carries a code and a sentence."""

    code: int
    detail: str

    def __post_init__(self) -> None:
        JobReport.__post_init__(self)
        checks.integer("code", self.code, 0, 999)
        checks.text("detail", self.detail)


@dataclass(slots=True)
class Rejected(Verdict):
    """The request, its source or its destination will not do (codes 1xx, 2xx, 3xx). Final."""

    KIND: ClassVar = "rejected"


@dataclass(slots=True)
class Failed(Verdict):
    """The job failed (4xx), or was cancelled (406), and the failure placeholder is up. Final."""

    KIND: ClassVar = "failed"


@dataclass(slots=True)
class Done(JobReport):
    """The result is in place. Final.

    Args:
        width_px, height_px, size_bytes: the result's.
        seconds: stage -> seconds (fetch, placeholder, pixels, upload, total, …).
        warnings: [name, detail] of what was not drawn or not kept.
    """

    KIND: ClassVar = "done"
    dst_url: str
    width_px: int
    height_px: int
    size_bytes: int
    seconds: Mapping[str, float]
    warnings: tuple[tuple[str, str], ...] = field(default=(), metadata=checks.LATER)

    def __post_init__(self) -> None:
        JobReport.__post_init__(self)
        checks.text("dst_url", self.dst_url, checks.URL_LIMIT_CHARS)
        checks.integer("width_px", self.width_px)
        checks.integer("height_px", self.height_px)
        checks.integer("size_bytes", self.size_bytes)
        checks.numbers("seconds", self.seconds)
        checks.warnings("warnings", self.warnings)


class ReturnReason(StrEnum):
    """Why a worker gives a job back unfinished."""

    DRAINED = "drained"  # never started, or stopped by an announced end: burns no attempt
    TRANSIENT = "transient"  # trouble that may pass: tried again after delay_s
    CRASHED = "crashed"  # its pixel process died: counted against the job


RETURN_REASONS: Final = frozenset(ReturnReason)


@dataclass(slots=True)
class Returned(Verdict):
    """The job goes back to the queue.

    Args:
        code, detail: what the verdict would be if this was the last attempt.
        reason: see `ReturnReason`.
        delay_s: the least time to wait before the next attempt (a Retry-After), or 0.
    """

    KIND: ClassVar = "returned"
    reason: str
    delay_s: float

    def __post_init__(self) -> None:
        Verdict.__post_init__(self)
        if self.reason not in RETURN_REASONS:
            raise ProtocolError("reason is not drained, transient or crashed")
        checks.number("delay_s", self.delay_s)


@dataclass(slots=True)
class Bye:
    """A worker leaves; what it still held goes to others at once."""

    KIND: ClassVar = "bye"
    incarnation: str
    reason: str

    def __post_init__(self) -> None:
        checks.identifier("incarnation", self.incarnation)
        checks.text("reason", self.reason)


JobReports = Accepted | Rejected | Done | Failed | Returned
ReportsMessage = Hello | Beat | JobReports | Bye

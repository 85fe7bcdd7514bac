"""What the broker says to one worker, on its lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from imgserve.protocol import checks


@dataclass(slots=True)
class Job:
    """Do this job now; it takes one slot until its final report or return is acknowledged.

    Args:
        epoch, job_id, attempt: what every report on it repeats.
        payload: the request, as UTF-8 JSON.
        accepted: an earlier attempt was accepted: upload no placeholder, report no acceptance.
        touched: an earlier attempt was lost that may have put a placeholder up, or even a result:
            unless this one puts a result up, the failure placeholder goes there.
        verdict: not 0: do no work, upload the failure placeholder, report `failed` with this code.
        detail: the sentence for that verdict.
    """

    KIND: ClassVar = "job"
    epoch: str
    job_id: str
    attempt: int
    payload: bytes
    accepted: bool
    touched: bool
    verdict: int
    detail: str

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.identifier("job_id", self.job_id)
        checks.integer("attempt", self.attempt)
        checks.blob("payload", self.payload)
        checks.boolean("accepted", self.accepted)
        checks.boolean("touched", self.touched)
        checks.integer("verdict", self.verdict, 0, 999)
        checks.text("detail", self.detail)


@dataclass(slots=True)
class CancelJob:
    """Stop this attempt before its next upload; it then fails with 406."""

    KIND: ClassVar = "cancel_job"
    epoch: str
    job_id: str
    attempt: int

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.identifier("job_id", self.job_id)
        checks.integer("attempt", self.attempt)


@dataclass(slots=True)
class Ack:
    """The broker has these reports and beats; final ones are in its journal."""

    KIND: ClassVar = "ack"
    epoch: str
    seqs: tuple[int, ...]

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.integers("seqs", self.seqs)


@dataclass(slots=True)
class Drain:
    """Take no more jobs, return those not started, finish the rest, say bye, end."""

    KIND: ClassVar = "drain"
    epoch: str
    reason: str

    def check(self) -> None:
        """Run by who reads it."""
        checks.identifier("epoch", self.epoch)
        checks.text("reason", self.reason)


LaneMessage = Job | CancelJob | Ack | Drain

"""What submitters say to the broker, on the jobs socket."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final

from imgserve.errors import ProtocolError
from imgserve.protocol import checks

PRIORITY_LOW: Final = -100
PRIORITY_HIGH: Final = 100


def digest_of(payload: bytes) -> bytes:
    """Return 16 bytes that stand for a payload where it is not kept (BLAKE2b, RFC 7693)."""
    return hashlib.blake2b(payload, digest_size=16).digest()


@dataclass(slots=True)
class Submit:
    """Take this job.

    Args:
        job_id: chosen by the submitter; the same id and payload again is the same job.
        submitter: the topic on which the submitter hears of it.
        priority: -100 to 100; higher goes first.
        payload: the request, as UTF-8 JSON; the broker never opens it.
        tag: only a worker with this tag may do it; empty: any worker.
    """

    KIND: ClassVar = "submit"
    job_id: str
    submitter: str
    priority: int
    payload: bytes
    tag: str = field(default="", metadata=checks.LATER)

    def __post_init__(self) -> None:
        checks.identifier("job_id", self.job_id)
        checks.identifier("submitter", self.submitter)
        checks.integer("priority", self.priority, PRIORITY_LOW, PRIORITY_HIGH)
        checks.blob("payload", self.payload)
        if self.tag:
            checks.identifier("tag", self.tag)


@dataclass(slots=True)
class Cancel:
    """Stop this job if it has not ended; its state is said to the asker either way."""

    KIND: ClassVar = "cancel"
    job_id: str
    submitter: str

    def __post_init__(self) -> None:
        checks.identifier("job_id", self.job_id)
        checks.identifier("submitter", self.submitter)


@dataclass(slots=True)
class Replay:
    """Say the present state of these jobs again; a job never heard of is said to be unknown."""

    KIND: ClassVar = "replay"
    submitter: str
    job_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        checks.identifier("submitter", self.submitter)
        checks.identifiers("job_ids", self.job_ids)


@dataclass(slots=True)
class AskStats:
    """Say the broker's figures now, to this topic."""

    KIND: ClassVar = "ask_stats"
    submitter: str

    def __post_init__(self) -> None:
        checks.identifier("submitter", self.submitter)


class DeadAction(StrEnum):
    """What to do with dead letters: jobs that ended `failed`."""

    LIST = "list"
    SHOW = "show"
    RETRY = "retry"
    DROP = "drop"


DEAD_ACTIONS: Final = frozenset(DeadAction)


@dataclass(slots=True)
class Dead:
    """Work with dead letters; the answer is a `dead_letters` event on the asker's topic.

    Args:
        action: list, show, retry (a new job with the same payload) or drop.
        job_id: the dead letter; empty for list.
    """

    KIND: ClassVar = "dead"
    submitter: str
    action: str
    job_id: str

    def __post_init__(self) -> None:
        checks.identifier("submitter", self.submitter)
        if self.action not in DEAD_ACTIONS:
            raise ProtocolError("action is not list, show, retry or drop")
        if self.action != DeadAction.LIST or self.job_id:
            checks.identifier("job_id", self.job_id)


JobsMessage = Submit | Cancel | Replay | AskStats | Dead

"""What became of a job: the outcome, and the errors that say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from imgserve.client.ledger import FINAL_RANK, RANK, Entry
from imgserve.errors import ImgserveError, JobConflict, JobFailed, RequestInvalid, RequestUnparsable
from imgserve.picture_warnings import PictureWarning
from imgserve.protocol.events import JobState, Refusal, State
from imgserve.request import parse


class JobUnknown(ImgserveError):
    """Raised when a job was never heard of, or is forgotten by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a job.

    Args:
        id: the job's id.
        state: done, failed, rejected or cancelled.
        dst_url: where the result is, once the job was accepted; else empty.
        width_px, height_px, size_bytes: the result's, once done; else 0.
        seconds: stage -> seconds.
        warnings: what of the source was not drawn or not kept, though it is done.
        code, detail: why not done; 0 and empty when done. A rejection without a code is a request
            that cannot be parsed, or an id that was used before for another request.
        attempts: how often the job was given to a worker.
        reasons: why earlier attempts ended, oldest first.
    """

    id: str
    state: State
    dst_url: str = ""
    width_px: int = 0
    height_px: int = 0
    size_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[PictureWarning, ...] = ()
    code: int = 0
    detail: str = ""
    attempts: int = 0
    reasons: tuple[str, ...] = ()


def is_accepted(entry: Entry) -> bool:
    """Whether a job's acceptance is decided, one way or the other."""
    latest = entry.latest
    return entry.over or (latest is not None and RANK[latest.state] >= RANK[State.ACCEPTED])  # type: ignore[index]


def is_over(entry: Entry) -> bool:
    """Whether nothing more can come for a job."""
    return entry.over


def is_final(state: JobState) -> bool:
    """Whether a state is a job's last."""
    return RANK[state.state] == FINAL_RANK  # type: ignore[index]


def outcome_of(entry: Entry) -> Outcome:
    """Return the outcome of a job that is over, whatever it is."""
    latest = entry.latest
    if latest is None:
        detail = entry.refusal.detail if entry.refusal else ""
        return Outcome(id=entry.job_id, state=State.REJECTED, detail=detail)
    return Outcome(
        id=entry.job_id,
        state=State(latest.state),
        dst_url=_own_dst_url(entry) if entry.dst_url else "",
        width_px=latest.width_px,
        height_px=latest.height_px,
        size_bytes=latest.size_bytes,
        seconds=latest.seconds or {},
        warnings=tuple(PictureWarning(*pair) for pair in latest.warnings),
        code=latest.code,
        detail=latest.detail,
        attempts=latest.attempts,
        reasons=latest.reasons,
    )


def outcome_of_invalid(job_id: str, error: RequestInvalid | RequestUnparsable) -> Outcome:
    """Return the outcome of a request that never left: it did not pass the quick checks."""
    code = error.code if isinstance(error, RequestInvalid) else 0
    detail = error.detail if isinstance(error, RequestInvalid) else str(error)
    return Outcome(id=job_id, state=State.REJECTED, code=code, detail=detail)


def accepted_reply(entry: Entry) -> dict[str, Any]:
    """Return the historical reply of an accepted job, or raise why it was not accepted."""
    if not entry.dst_url:
        raise_verdict(entry)
    return {"dstURL": _own_dst_url(entry)}


def _own_dst_url(entry: Entry) -> str:
    """Return the final dstURL as its own submitter wrote it; events leave its user info out."""
    if entry.payload is None or b"@" not in entry.payload:
        return entry.dst_url
    return parse(entry.payload).dst_url


def result_of(entry: Entry) -> Outcome:
    """Return the outcome of a job that is done, or raise why it is not."""
    if entry.latest is None or entry.latest.state != State.DONE:
        raise_verdict(entry)
    return outcome_of(entry)


def raise_verdict(entry: Entry) -> NoReturn:
    """Raise the error of a job that did not come to its end."""
    latest, refusal = entry.latest, entry.refusal
    if latest is None:
        if refusal is not None and refusal.reason == Refusal.CONFLICT:
            raise JobConflict(refusal.detail or f"{entry.job_id} was used for another request")
        raise JobUnknown(f"there is no job {entry.job_id}, or it is forgotten")
    if latest.state == State.REJECTED:
        raise RequestInvalid(latest.detail, code=latest.code)
    cancelled = latest.state == State.CANCELLED
    raise JobFailed(latest.detail, code=latest.code or (406 if cancelled else 401))

"""The history checker: what may be true of one job once everything has come to rest. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from scripts.chaos_lib.jobs import Flavour

TERMINAL: Final = frozenset({"done", "failed", "rejected", "cancelled"})
POISONED: Final = 405
"""A healthy job may end so: the run itself kills pixel processes, and three may be of one job."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in which HTTP connections may break: their gateway was killed."""

    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the journal holds of a job at the end.

    Args:
        state: `queued` for every job that has not ended.
        reasons: why its attempts ended.
    """

    state: str
    code: int = 0
    detail: str = ""
    accepted: bool = False
    crashes: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class History:
    """One job as everybody saw it.

    Args:
        lines: of its client's ledger, oldest first.
        record: of the journal; None when that knows nothing of it.
        content: what stands at its destination: final, processing, failed, absent or other.
        uploads: every version that its destination got, with its time; empty where nobody watched.
    """

    job_id: str
    flavour: Flavour = Flavour.PLAIN
    lines: list[Mapping[str, Any]] = field(default_factory=list)
    record: Record | None = None
    content: str = "absent"
    uploads: list[tuple[float, str]] = field(default_factory=list)

    def of(self, what: str) -> Iterator[Mapping[str, Any]]:
        """Yield the ledger's lines of one kind."""
        return (line for line in self.lines if line["what"] == what)

    def told(self) -> Iterator[tuple[float, str, int]]:
        """Yield (time, state, code) as often as the client was told a state."""
        for line in self.lines:
            if line["what"] == "event":
                yield line["t"], line["state"], line["code"]
            elif line["what"] == "answer":
                document = line["document"]
                if "state" in document:
                    yield line["t"], document["state"], document.get("code", 0)
                elif "dstURL" in document:
                    yield line["t"], "accepted", 0
                elif line["status"] == 200 and "code" in document:
                    # POST / gives failed and rejected one shape: its code tells which.
                    yield line["t"], _state_of_code(document["code"]), document["code"]


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    job_id: str
    promise: str
    sentence: str


def violations(history: History, killed: Sequence[Window] = ()) -> list[Violation]:
    """Return every promise that a job's history breaks.

    Args:
        history: the job's.
        killed: when gateways were killed.
    """
    found = [sentence for check in CHECKS for sentence in check(history)]
    found += _http_trouble(history, killed)
    return [Violation(history.job_id, promise, sentence) for promise, sentence in found]


Finding = tuple[str, str]


def _state_of_code(code: int) -> str:
    if code == 406:
        return "cancelled"
    return "rejected" if code < 400 else "failed"


def _resolved(history: History) -> Iterator[Finding]:
    for _ in history.of("unresolved"):
        yield "stuck", "its client heard of no end, long after the faults were over"
    for line in history.of("raised"):
        yield "client", f"the client raised {line['detail']}"


def _recorded(history: History) -> Iterator[Finding]:
    told = [state for _, state, _ in history.told()]
    if not told:
        return
    if history.record is None:
        yield "lost", f"it was said to be {told[0]}, and the journal knows nothing of it"
    elif history.record.state not in TERMINAL:
        yield "stuck", f"the journal still says {history.record.state}"


def _one_end(history: History) -> Iterator[Finding]:
    ends = {(state, code) for _, state, code in history.told() if state in TERMINAL}
    if len(ends) > 1:
        yield "two ends", f"it was said to be {' and '.join(map(str, sorted(ends)))}"
    record = history.record
    if record is not None and record.state in TERMINAL:
        for state, code in ends - {(record.state, record.code)}:
            saying = f"{record.state} {record.code}"
            yield "two ends", f"it was said to be {state} {code}; the journal says {saying}"


def _never_back(history: History) -> Iterator[Finding]:
    accepted = False
    for _, state, _ in history.told():
        accepted = accepted or state == "accepted"
        if accepted and state == "rejected":
            yield "went back", "it was rejected after it was said to be accepted"
            return


def _destination(history: History) -> Iterator[Finding]:
    record = history.record
    if record is None:
        return
    allowed = {
        "done": {"final"},
        "failed": {"failed"} if record.accepted else {"failed", "absent"},
        # The failure placeholder replaces what a lost attempt may have put up, accepted or not.
        "rejected": {"failed", "absent"},
        "cancelled": {"failed"} if record.accepted else {"failed", "absent"},
    }.get(record.state)
    if allowed is not None and history.content not in allowed:
        ended = f"{record.state} {record.code or ''}".strip()
        wanted = " or ".join(sorted(allowed))
        yield "destination", f"it is {ended}; its destination: {history.content}, not {wanted}"


def _cause(history: History) -> Iterator[Finding]:
    record = history.record
    if record is None or record.state not in TERMINAL:
        return
    if record.state != "done" and not (record.code and record.detail):
        yield "cause", f"it is {record.state} without a code and a sentence"
    verdict = (record.state, record.code)
    if verdict not in _fitting(history) and not _poisoned(record):
        yield "verdict", f"a job that is {history.flavour} ended {record.state} {record.code}"


def _fitting(history: History) -> set[tuple[str, int]]:
    done = ("done", 0)
    if history.flavour is Flavour.MISSING:
        return {("rejected", 201)}
    if history.flavour is Flavour.BROKEN:
        return {("failed", 401), ("failed", 403)}
    if history.flavour is Flavour.VANISHING:
        return {done, ("rejected", 201), ("failed", 403)}
    if history.flavour is Flavour.CANCEL:
        return {done, ("cancelled", 406)}
    return {done}


def _poisoned(record: Record) -> bool:
    died = sum("crashed" in reason for reason in record.reasons)
    return record.state == "failed" and max(died, record.crashes) >= 2


def _no_late_placeholder(history: History) -> Iterator[Finding]:
    accepted_s = min((t for t, state, _ in history.told() if state == "accepted"), default=None)
    for t, content in history.uploads:
        if accepted_s is not None and content == "processing" and t > accepted_s:
            late_s = t - accepted_s
            yield "placeholder", f"a placeholder came {late_s:.3f} s after it was said accepted"


def _conflict(history: History) -> Iterator[Finding]:
    reasons = [line["reason"] for line in history.of("refused")]
    if "conflict" in reasons and history.flavour is not Flavour.OTHER:
        yield "conflict", "it was refused as a conflict, and its id was used once"


CHECKS: Final[tuple[Callable[[History], Iterator[Finding]], ...]] = (
    _resolved,
    _recorded,
    _one_end,
    _never_back,
    _destination,
    _cause,
    _no_late_placeholder,
    _conflict,
)


def _http_trouble(history: History, killed: Sequence[Window]) -> Iterator[Finding]:
    for line in history.of("answer"):
        status = line["status"]
        if status == 503 and not line["retry_after"]:
            yield "HTTP", "503 without Retry-After"
        elif status not in (200, 202, 503) and (line["method"], status) != ("DELETE", 409):
            yield "HTTP", f"{line['method']} was answered {status}: {line['document']}"
    for line in history.of("broken"):
        if not excused(line, killed):
            yield "HTTP", f"a connection broke while no gateway was killed: {line['detail']}"


def excused(line: Mapping[str, Any], killed: Sequence[Window]) -> bool:
    """Whether a gateway was killed while a request that broke was under way."""
    return any(window.begin_s <= line["t"] and window.end_s >= line["began"] for window in killed)

"""What a run has shown: every history checked, counts, redelivery, unasked ends, tracebacks."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.chaos_lib.catalog import Versions
from scripts.chaos_lib.evidence import gather
from scripts.chaos_lib.faults import Deed
from scripts.chaos_lib.history import History, Violation, Window, excused, violations
from scripts.chaos_lib.plan import Kind
from scripts.chaos_lib.processes import End
from scripts.chaos_lib.redelivery import Death, Redelivery, redeliveries
from scripts.chaos_lib.service import Service
from scripts.chaos_lib.trace import read_lines

KILL_SHOWS_S: Final = 1.0
"""A killed process's connections break within this, even on a machine that is busy."""

SETTLING_S: Final = 3.0
"""After trouble the service needs a moment (reconnects, a lease) before figures are clean again."""

REDELIVERY_MARGIN_S: Final = 1.0

_DRAINED: Final = (0, -signal.SIGTERM)
"""SIGTERM itself ends a process that has hardly begun and does not handle signals yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The outcome of a run.

    Args:
        violations: every broken promise; empty is good.
        kills: by kind; crashes at named points among them.
        crashes: by the point's name.
        ends: jobs by their final state in the journal.
        broken: HTTP connections that broke with a gateway that was killed.
    """

    violations: list[Violation]
    histories: Mapping[str, History]
    kills: Counter[str]
    crashes: Counter[str]
    troubles: Counter[str]
    ends: Counter[str]
    answers: Counter[int]
    broken: int
    redeliveries: list[Redelivery]
    crash_times: list[float]
    deeds: Sequence[Deed]


def judge(
    service: Service,
    catalog: Mapping[tuple[str, int, int], Versions],
    deeds: Sequence[Deed],
    codes: Mapping[str, int | None],
) -> Judgement:
    """Read everything that the run has left, and judge it."""
    crashes = [line for line in read_lines(service.trace) if line["what"] == "crash"]
    histories = gather(
        service.ledgers,
        service.state / "journal.sqlite3",
        service.folder / "uploads.jsonl",
        service.ends,
        catalog,
    )
    windows = _gateway_kills(service, deeds, crashes)
    found = [each for history in histories.values() for each in violations(history, windows)]
    measured = _redeliveries(service, deeds, crashes)
    limit_s = service.scale.lease_s + REDELIVERY_MARGIN_S
    for slow in (each for each in measured if each.clean and each.seconds > limit_s):
        sentence = f"{slow.seconds:.2f} s from its worker's death to its redelivery"
        found.append(Violation(slow.job_id, "redelivery", sentence))
    found += _unasked_ends(service, deeds, crashes, codes)
    found += _tracebacks(service.folder / "logs")
    broken = [line for each in histories.values() for line in each.of("broken")]
    return Judgement(
        violations=found,
        histories=histories,
        kills=Counter(deed.row for deed in deeds if deed.kind is Kind.KILL)
        + Counter({"crash point": len(crashes)}),
        crashes=Counter(line["point"] for line in crashes),
        troubles=Counter(str(deed.kind) for deed in deeds if deed.kind is not Kind.KILL),
        ends=Counter(
            each.record.state if each.record else "unknown" for each in histories.values()
        ),
        answers=Counter(
            line["status"] for each in histories.values() for line in each.of("answer")
        ),
        broken=sum(excused(line, windows) for line in broken),
        redeliveries=measured,
        crash_times=[line["t"] for line in crashes],
        deeds=deeds,
    )


def _gateway_kills(
    service: Service, deeds: Sequence[Deed], crashes: Sequence[Mapping[str, Any]]
) -> list[Window]:
    pids = {end.pid for end in service.parts["gateway"].ends}
    times = [deed.begin_s for deed in deeds if deed.row == "kill gateway"]
    times += [line["t"] for line in crashes if line["pid"] in pids]
    return [Window(at_s, at_s + KILL_SHOWS_S) for at_s in sorted(times)]


def _redeliveries(
    service: Service, deeds: Sequence[Deed], crashes: Sequence[Mapping[str, Any]]
) -> list[Redelivery]:
    """Trouble is what befalls the broker or a worker; gateways and clients play no part."""
    pids = {end.pid for name in service.scale.names for end in service.parts[name].ends}
    deaths = [Death(deed.pid, deed.begin_s) for deed in deeds if deed.row == "kill worker"]
    deaths += [Death(line["pid"], line["t"]) for line in crashes if line["pid"] in pids]
    troubles = [
        (deed.begin_s, deed.end_s + SETTLING_S)
        for deed in deeds
        if deed.target in ("broker", *service.scale.names) and deed.row != "kill worker"
    ]
    brokers = {end.pid for end in service.parts["broker"].ends}
    troubles += [(line["t"], line["t"] + SETTLING_S) for line in crashes if line["pid"] in brokers]
    lines = (line for line in read_lines(service.trace) if line["what"] in ("join", "dispatch"))
    broker_deaths = sorted(end.end_s for end in service.parts["broker"].ends)
    return redeliveries(lines, deaths, sorted(troubles), broker_deaths)


def _unasked_ends(
    service: Service,
    deeds: Sequence[Deed],
    crashes: Sequence[Mapping[str, Any]],
    codes: Mapping[str, int | None],
) -> list[Violation]:
    """A part ends because it was killed or told to, and in no other way."""
    killed = {deed.pid for deed in deeds if deed.kind is Kind.KILL}
    killed |= {line["pid"] for line in crashes}
    told = {deed.pid for deed in deeds if deed.kind is Kind.TERM}
    told |= {part.ends[-1].pid for part in service.parts.values() if part.ends}
    found = []
    for process in service.processes[:-1]:
        for end in process.ends:
            fits = end.pid in killed if end.code == -9 else end.code in _DRAINED
            asked = end.pid in killed | told or process in service.submitters
            if not (fits and asked) and not _without_pixels(end, deeds):
                sentence = (
                    f"pid {end.pid} ended with {end.code} after {end.end_s - end.begin_s:.1f} s"
                )
                found.append(Violation(process.name, "unasked end", sentence))
        found += [
            Violation(process.name, "orphan", f"pid {pid} lives on") for pid in process.orphans()
        ]
    for name, code in codes.items():
        if code is None:
            found.append(Violation(name, "drain", "it did not end when told to, and was killed"))
    return found


def _without_pixels(end: End, deeds: Sequence[Deed]) -> bool:
    """Whether a worker ended because its pixel process was killed as it started."""
    return end.code == os.EX_UNAVAILABLE and any(
        deed.target == f"pixels of {end.name}" and end.begin_s <= deed.begin_s <= end.end_s
        for deed in deeds
    )


def _tracebacks(folder: Path) -> list[Violation]:
    found = []
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()
        starts = [n for n, line in enumerate(lines) if line.startswith("Traceback (most")]
        for start in starts[:3]:
            error = next((each for each in lines[start + 1 :] if each[:1] not in (" ", "")), "")
            sentence = f"{len(starts)} tracebacks; {log.name}:{start + 1} {error}"
            found.append(Violation(log.stem, "traceback", sentence))
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

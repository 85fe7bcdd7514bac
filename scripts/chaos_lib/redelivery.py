"""How long the jobs of a killed worker wait until another one has them. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Death:
    """A worker's process was killed."""

    pid: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Redelivery:
    """One job that a killed worker held.

    Args:
        seconds: from the death to the next dispatch.
        clean: nothing else was wrong with the service meanwhile.
    """

    job_id: str
    seconds: float
    clean: bool


def redeliveries(
    broker_lines: Iterable[Mapping[str, Any]],
    deaths: Sequence[Death],
    troubles: Sequence[tuple[float, float]],
    *,
    settling_s: float = 0.0,
) -> list[Redelivery]:
    """Return every redelivery after a worker's death.

    Args:
        broker_lines: `join` and `dispatch` of the trace, oldest first.
        deaths: of workers.
        troubles: (begin, end) of everything else that was wrong.
        settling_s: how long another worker's death leaves too few workers.
    """
    died = {death.pid: death.at_s for death in deaths}
    pids: dict[str, int] = {}
    last: dict[str, Mapping[str, Any]] = {}
    found = []
    for line in broker_lines:
        if line["what"] == "join":
            pids[line["incarnation"]] = line["pid"]
        elif line["what"] == "dispatch":
            former = last.get(line["job"])
            last[line["job"]] = line
            if former is None or former["attempt"] == line["attempt"]:
                continue
            died_s = died.get(pids.get(former["incarnation"], 0), 0.0)
            if former["t"] < died_s < line["t"]:
                others = [
                    (death.at_s, death.at_s + settling_s)
                    for death in deaths
                    if death.pid != pids[former["incarnation"]]
                ]
                span = (former["t"], line["t"])
                clean = not (_overlaps(troubles, *span) or _overlaps(sorted(others), *span))
                found.append(Redelivery(line["job"], line["t"] - died_s, clean))
    return found


def _overlaps(troubles: Sequence[tuple[float, float]], begin_s: float, end_s: float) -> bool:
    begun = bisect_right(troubles, end_s, key=lambda trouble: trouble[0])
    return any(end >= begin_s for _, end in troubles[:begun])

"""How long the jobs of a killed worker wait until another one has them. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
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
        clean: another worker was there all the time, and nothing else was wrong meanwhile.
    """

    job_id: str
    seconds: float
    clean: bool


def redeliveries(
    broker_lines: Iterable[Mapping[str, Any]],
    deaths: Sequence[Death],
    troubles: Sequence[tuple[float, float]],
    broker_deaths: Sequence[float] = (),
) -> list[Redelivery]:
    """Return every redelivery after a worker's death.

    Args:
        broker_lines: `join` and `dispatch` of the trace, oldest first.
        deaths: of workers.
        troubles: (begin, end) of everything else that was wrong, in order.
        broker_deaths: a worker that joined before one of them has to join again.
    """
    died = {death.pid: death.at_s for death in deaths}
    joins: list[_Join] = []
    pids: dict[str, int] = {}
    last: dict[str, Mapping[str, Any]] = {}
    found = []
    for line in broker_lines:
        if line["what"] == "join":
            pids[line["incarnation"]] = line["pid"]
            joins.append(_Join(line["pid"], line["t"]))
        elif line["what"] == "dispatch":
            former = last.get(line["job"])
            last[line["job"]] = line
            if former is None or former["attempt"] == line["attempt"]:
                continue
            pid = pids.get(former["incarnation"], 0)
            died_s = died.get(pid, 0.0)
            if former["t"] < died_s < line["t"]:
                born_s = max((at_s for at_s in broker_deaths if at_s < died_s), default=-inf)
                another = any(
                    born_s < join.at_s < died_s
                    and join.pid != pid
                    and died.get(join.pid, line["t"]) >= line["t"]
                    for join in joins
                )
                clean = another and not _overlaps(troubles, former["t"], line["t"])
                found.append(Redelivery(line["job"], line["t"] - died_s, clean))
    return found


@dataclass(frozen=True, slots=True)
class _Join:
    pid: int
    at_s: float


def _overlaps(troubles: Sequence[tuple[float, float]], begin_s: float, end_s: float) -> bool:
    begun = bisect_right(troubles, end_s, key=lambda trouble: trouble[0])
    return any(end >= begin_s for _, end in troubles[:begun])

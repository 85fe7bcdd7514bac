"""What the charts show, taken out of bench.json. Pure; `charts` draws it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench_lib.report import BenchError
from bench_lib.works.growth import GROWTH_ROW, LAST_ROW
from bench_lib.works.resize import BARE_ROW, WAYS, part_row

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bar:
    """One way to do W1's job: milliseconds of CPU a job by part, and the most it should take."""

    name: str
    parts_ms: Mapping[str, float]
    goal_ms: float | None


@dataclass(frozen=True, slots=True)
class Growth:
    """CPU a job beside the first batch; `jobs` were done at the end of each batch."""

    jobs: tuple[float, ...]
    ratios: tuple[float, ...]
    goal: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One ratio over the rounds, and the range that it should lie in; None where it is open."""

    name: str
    low: float
    middle: float
    high: float
    at_least: float | None
    at_most: float | None

    @property
    def met(self) -> bool:
        """Whether the median reaches the goal."""
        above = self.at_least is None or self.middle >= self.at_least
        return above and (self.at_most is None or self.middle <= self.at_most)


def cpu_bars(document: Document) -> list[Bar]:
    """Return W1's bars: the bare loop, then each way through the service.

    Raises:
        BenchError: when W1 has no figures.
    """
    rows = _rows(document, "W1")
    bare_ms = rows[BARE_ROW]["median"]
    bars = [Bar("bare loop", {"pixels alone": bare_ms}, None)]
    for way in WAYS:
        begins, _, ends = part_row(way, "*").partition("*")
        parts = {
            name.removeprefix(begins).removesuffix(ends): row["median"]
            for name, row in rows.items()
            if name.startswith(begins) and name.endswith(ends)
        }
        _, at_most = goal_of(rows[f"{way}, CPU beside the bare loop"]["goal"])
        bars.append(Bar(way, parts, at_most and at_most * bare_ms))
    return bars


def growth(document: Document) -> Growth:
    """Return W8's growth.

    Raises:
        BenchError: when W8 has no figures.
    """
    rows = _rows(document, "W8")
    name = next((each for each in rows if each.startswith(GROWTH_ROW)), GROWTH_ROW)
    ratios = tuple(rows[name]["values"])
    first, last = (int(each) for each in re.findall(r"jobs (\d+) to (\d+)$", name)[0])
    batch = (last - first) / len(ratios)
    at_least, at_most = goal_of(rows[LAST_ROW]["goal"])
    ends = tuple(first + batch * (each + 1) for each in range(len(ratios)))
    return Growth(ends, ratios, (at_least or 0, at_most or 0))


def ratios(document: Document) -> list[Ratio]:
    """Return every ratio that has a goal.

    Raises:
        BenchError: when there is none.
    """
    found = []
    for work, row in _all(document):
        goal = goal_of(row["goal"])
        if row["unit"] == "x" and goal != (None, None):
            values = row["min"], row["median"], row["max"]
            found.append(Ratio(f"{work}: {row['name']}", *values, *goal))
    if not found:
        raise BenchError("no work with a ratio and a goal has figures")
    return found


def goal_of(words: str) -> tuple[float | None, float | None]:
    """Return the least and the most that a goal allows, None where it is open or no number."""
    if found := re.fullmatch(r"([\d.]+) to ([\d.]+)", words):
        return float(found[1]), float(found[2])
    if found := re.fullmatch(r"(<=?|>=?) ?([\d.]+)", words):
        bound = float(found[2])
        return (bound, None) if found[1][0] == ">" else (None, bound)
    return None, None


class Rows(dict[str, dict[str, Any]]):
    """Rows by name; one that is not there is a sentence, for the file may be of a former bench."""

    def __missing__(self, name: str) -> dict[str, Any]:
        raise BenchError(f"there is no row '{name}'; run that work again")


def _rows(document: Document, work: str) -> Rows:
    entry = document.get(work)
    if entry is None:
        raise BenchError(f"{work} was not run")
    if "figures" not in entry:
        raise BenchError(entry.get("refused") or entry.get("failed"))
    return Rows((row["name"], row) for row in entry["figures"])


def _all(document: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    for work, entry in document.items():
        if "figures" in entry:
            yield from ((f"{work}{mark(document, work)}", row) for row in entry["figures"])


def mark(document: Document, work: str) -> str:
    """Return what stands behind the name of a work that was reported although it was noisy."""
    return " (noisy)" if "noisy" in document[work] else ""

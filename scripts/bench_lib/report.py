"""Figures and their table."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure over the rounds.

    Args:
        name: what was measured.
        unit: of the values; "x" for a ratio.
        values: one a round.
        goal: what it should reach, in words; empty where none is set.
        spread_most: how far the rounds may lie apart, see `noise.spread`; a wider figure refuses
            its work. None where the figure is none that the work stands by.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    goal: str = ""
    spread_most: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figure for JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "min": min(self.values),
            "median": median(self.values),
            "max": max(self.values),
            "values": list(self.values),
            "goal": self.goal,
        }


class BenchError(Exception):
    """Raised when a work cannot be measured honestly: failed jobs, a wrong picture, a lost peer."""


def print_table(name: str, about: str, figures: list[Figure]) -> None:
    """Print one work's figures."""
    print(f"\n{name}  {about}")
    width = max((len(figure.name) for figure in figures), default=0)
    print(f"  {'':{width}}{'min':>10}{'median':>10}{'max':>10}  unit    goal")
    for figure in figures:
        low, middle, high = min(figure.values), median(figure.values), max(figure.values)
        numbers = "".join(
            f"{value:>10.3g}" if value < 100 else f"{value:>10.0f}" for value in (low, middle, high)
        )
        print(f"  {figure.name:{width}}{numbers}  {figure.unit:7} {figure.goal}")

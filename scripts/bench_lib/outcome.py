"""What became of a work: its figures, or why there are none."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import psutil

from bench_lib.noise import too_noisy
from bench_lib.report import BenchError, Figure, print_table
from bench_lib.setting import Setting

Work = Callable[[Setting], list[Figure]]
ADVICE = (
    "Run it again on a quiet machine, or with more --rounds, or with --noisy to see the figures"
    " anyway."
)
STOLEN_WORTH_SAYING = 0.01


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one work.

    Args:
        name, about: of the work.
        figures: what it measured; empty when it may not be reported.
        refused: why the machine was too noisy for them.
        failed: why it could not be measured.
        noisy: why the figures say little; they are shown all the same.
        stolen: the part of the cores' time that a virtual machine's host gave to others meanwhile.
    """

    name: str
    about: str
    figures: tuple[Figure, ...] = ()
    refused: str = ""
    failed: str = ""
    noisy: str = ""
    stolen: float = 0.0

    @property
    def reported(self) -> bool:
        """Whether there are figures to be read."""
        return not (self.refused or self.failed)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON: figures, or `refused` or `failed` instead of them."""
        entry: dict[str, Any] = {"about": self.about, "stolen": round(self.stolen, 4)}
        if self.refused:
            return entry | {"refused": self.refused}
        if self.failed:
            return entry | {"failed": self.failed}
        if self.noisy:
            entry["noisy"] = self.noisy
        return entry | {"figures": [figure.as_dict() for figure in self.figures]}

    def show(self) -> None:
        """Print the table, or the sentence that stands in its place."""
        if not self.reported:
            print(f"\n{self.name}  {self.about}\n  {self.refused or self.failed}")
            return
        print_table(self.name, self.about, list(self.figures))
        if self.stolen >= STOLEN_WORTH_SAYING:
            print(f"  The host gave {self.stolen:.0%} of the cores' time to others meanwhile.")
        if self.noisy:
            print(f"  NOISY: {self.noisy}.")


def measure(name: str, about: str, work: Work, setting: Setting, *, noisy: bool) -> Outcome:
    """Run one work; whatever goes wrong in it is told in its outcome and stops no other work.

    Args:
        name: of the work.
        about: what it is, in a few words.
        work: measures.
        setting: where and how much.
        noisy: report its figures even when the machine was too noisy for them.
    """
    before = psutil.cpu_times()
    outcome = _measure(name, about, work, setting, noisy=noisy)
    return replace(outcome, stolen=stolen(before, psutil.cpu_times()))


def stolen(before: Any, after: Any) -> float:
    """Return the part of the time between two readings of /proc/stat that was stolen: 0 to 1."""
    passed_s = sum(after) - sum(before)
    return (after.steal - before.steal) / passed_s if passed_s > 0 else 0.0


def _measure(name: str, about: str, work: Work, setting: Setting, *, noisy: bool) -> Outcome:
    try:
        figures = tuple(work(setting))
    except BenchError as exc:
        return Outcome(name, about, failed=f"{name} could not be measured: {exc}.")
    except Exception as exc:  # noqa: BLE001 (the other works' figures must not be lost)
        traceback.print_exc(file=sys.stderr)
        return Outcome(name, about, failed=f"{name} could not be measured: {exc!r}.")
    why = too_noisy(figures)
    if why and not noisy:
        return Outcome(name, about, refused=f"{name} is not reported: {why}. {ADVICE}")
    return Outcome(name, about, figures, noisy=why)

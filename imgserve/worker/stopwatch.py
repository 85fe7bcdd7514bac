"""Seconds of each stage of a job."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType


class Stopwatch:
    """Adds up the seconds of named stages; a stage entered twice counts both times."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_s = clock()
        self._seconds: dict[str, float] = {}
        self._stage = ""
        self._stage_started_s = 0.0

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {value:.3f}" for name, value in self._seconds.items())
        return f"{self._clock() - self._started_s:.3f} s" + (f" ({stages})" if stages else "")

    def stage(self, name: str) -> Stopwatch:
        """Name the stage that the following `with` block is."""
        self._stage = name
        return self

    def mark(self, name: str) -> None:
        """Keep the seconds since the start under a name."""
        self._seconds[name] = round(self._clock() - self._started_s, 6)

    def seconds(self) -> dict[str, float]:
        """Return stage -> seconds, and the total."""
        self.mark("total")
        return dict(self._seconds)

    def __enter__(self) -> None:
        self._stage_started_s = self._clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        spent_s = self._clock() - self._stage_started_s
        self._seconds[self._stage] = round(self._seconds.get(self._stage, 0.0) + spent_s, 6)

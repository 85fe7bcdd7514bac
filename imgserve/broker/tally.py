"""Counts and histograms for `stats`; the gateway shows them as Prometheus metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

from imgserve.protocol.events import State

BOUNDS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of the buckets in seconds: a millisecond of pixels to a minute of fetching."""

STAGES_LIMIT: Final = 16
"""Stages that are measured at most; a worker names them, and a peer is untrusted."""


class Tally:
    """Jobs by state since the broker started, and seconds by stage."""

    def __init__(self) -> None:
        self.jobs_total: dict[str, int] = dict.fromkeys(State, 0)
        self._stages: dict[str, tuple[list[int], list[float]]] = {}

    def count(self, state: State) -> None:
        """Count a job that was taken (queued) or has ended."""
        self.jobs_total[state] += 1

    def measure(self, seconds: Mapping[str, float]) -> None:
        """Put a finished job's stages into their buckets."""
        for stage, value_s in seconds.items():
            if stage not in self._stages:
                if len(self._stages) >= STAGES_LIMIT:
                    continue
                self._stages[stage] = ([0] * (len(BOUNDS_S) + 1), [0.0])
            counts, total = self._stages[stage]
            counts[bisect_left(BOUNDS_S, value_s)] += 1
            total[0] += value_s

    def stages(self) -> dict[str, Any]:
        """Return stage -> bounds, counts (one more than bounds) and sum in seconds."""
        return {
            stage: {"bounds": list(BOUNDS_S), "counts": list(counts), "sum": total[0]}
            for stage, (counts, total) in self._stages.items()
        }

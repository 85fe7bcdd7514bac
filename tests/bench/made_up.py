"""Figures of works that were never run, through the works' own rows."""

from __future__ import annotations

from typing import Any

from bench_lib.bare import Cost
from bench_lib.drive import ServiceCost
from bench_lib.outcome import Outcome
from bench_lib.report import Figure
from bench_lib.works import growth, resize

NATIVE_S = {"supervisor": 0.0, "gateway": 0.1, "broker": 0.3, "worker": 0.4}
POST_S = NATIVE_S | {"gateway": 0.5, "pixel processes": 1.6}


def w1() -> list[Figure]:
    """Three rounds of 100 jobs: 16 ms bare, 24.9 ms native, 28 ms by POST."""
    native_s = NATIVE_S | {"pixel processes": 1.59, "client": 0.1}
    bares = [Cost(100, 1.6, 1.0)] * 3
    return resize.figures(
        resize.Way([ServiceCost(100, sum(native_s.values()), 1.5, native_s)] * 3, bares),
        resize.Way([ServiceCost(100, sum(POST_S.values()), 1.7, POST_S)] * 3, bares),
    )


def w8() -> list[Figure]:
    """Eleven batches of 9,000 jobs, the last one a fifth dearer than the first."""
    batches = [ServiceCost(9_000, 45 * (1 + each / 50), 30.0, {}) for each in range(11)]
    return growth.growth_figures([Cost(4_000, 3.2, 2.0)] * 11, batches)


def document(**works: Outcome | list[Figure]) -> dict[str, Any]:
    """Return the content of a bench.json."""
    outcomes = {
        name: work if isinstance(work, Outcome) else Outcome(name, "about", tuple(work))
        for name, work in works.items()
    }
    return {name: each.as_dict() | {"run": {"full": True}} for name, each in outcomes.items()}

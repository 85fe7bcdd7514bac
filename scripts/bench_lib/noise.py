"""When a machine was too noisy for a figure to say anything. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench_lib.report import Figure

RATIO_SPREAD_MOST = 0.25
"""Of a ratio to the bare loop of the same round: what slows both alike does not touch it."""

BARE_SPREAD_MOST = 0.30
"""Of the bare loop's CPU a job: a host whose speed changes more changes it within rounds, too."""

RATE_SPREAD_MOST = 0.40
"""Of a rate or a time, which has nothing beside it that takes the host's speed out."""


def spread(values: Sequence[float]) -> float:
    """Return how far values lie apart, as a part of their median: (max - min) / median.

    Of five and more values the outer ones are left out, one in four on each side: more rounds
    would otherwise spread wider, although they say more.
    """
    outer = (len(values) - 1) // 4
    inner = sorted(values)[outer : len(values) - outer]
    if inner[-1] == inner[0]:
        return 0.0
    middle = median(values)
    return (inner[-1] - inner[0]) / middle if middle > 0 else float("inf")


def too_noisy(figures: Sequence[Figure]) -> str:
    """Return why figures say nothing, as the end of a sentence; empty when they may be reported."""
    for figure in figures:
        if figure.spread_most is None or spread(figure.values) <= figure.spread_most:
            continue
        return (
            f"its figure '{figure.name}' spread over {spread(figure.values):.2f} of the median;"
            f" more than {figure.spread_most:.2f} says nothing"
        )
    return ""

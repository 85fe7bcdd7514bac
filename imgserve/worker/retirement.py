"""When a worker leaves of its own accord: its time, its jobs, its memory, or no broker. Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from imgserve.config import Settings

EXIT_NO_BROKER: Final = os.EX_NOHOST
"""No broker answered within the death timeout."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Why a worker leaves, and its exit code."""

    reason: str
    exit_code: int = os.EX_OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a worker is now.

    Args:
        now_s: monotonic seconds.
        alone_since_s: since when it has had no broker; None: it has one.
        ended: jobs that it has brought to an end.
        rss_bytes: memory of it and its pixel processes; 0 where nobody asks.
        trouble: what stands between it and a broker.
    """

    now_s: float
    alone_since_s: float | None
    ended: int
    rss_bytes: float
    trouble: str


class Retirement:
    """Tells when it is time.

    Args:
        settings: lifetime, stagger, death timeout, most jobs, most memory.
        born_s: when the worker's life began.
        luck: 0 to 1, another one in each worker: what part of the stagger it goes early.
    """

    def __init__(self, settings: Settings, *, born_s: float, luck: float) -> None:
        self._settings = settings
        self._ends_s = float("inf")
        if settings.lifetime_s is not None:
            # Half of a short life at least is for work.
            early_s = luck * min(settings.stagger_s, settings.lifetime_s / 2)
            self._ends_s = born_s + settings.lifetime_s - early_s

    @property
    def watches_memory(self) -> bool:
        """Whether `Condition.rss_bytes` is needed."""
        return self._settings.max_rss_bytes is not None

    def due(self, condition: Condition) -> Leave | None:
        """Return why to leave now, None to go on."""
        settings = self._settings
        if condition.now_s >= self._ends_s:
            return Leave(f"its lifetime of {settings.lifetime_s:g} s is over")
        if settings.max_jobs is not None and condition.ended >= settings.max_jobs:
            return Leave(f"it has done {condition.ended} jobs, its most")
        if settings.max_rss_bytes is not None and condition.rss_bytes >= settings.max_rss_bytes:
            used, most = condition.rss_bytes / 1e6, settings.max_rss_bytes / 1e6
            return Leave(f"it uses {used:.0f} MB of memory; {most:.0f} MB is its most")
        if settings.death_timeout_s is not None and condition.alone_since_s is not None:
            alone_s = condition.now_s - condition.alone_since_s
            if alone_s >= settings.death_timeout_s:
                return Leave(f"no broker for {alone_s:.0f} s: {condition.trouble}", EXIT_NO_BROKER)
        return None

"""How old finished jobs are, whatever becomes of the wall clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

SHARE_AT_ONCE: Final = 0.01
"""Of the finished jobs, those that may be forgotten for their age in one pass. In normal work far
fewer come of age between two passes; after the wall clock jumped, all of them at once may seem to,
and most are still there when it is put right."""


class RetentionClock:
    """Unix time that goes forward no faster than time passes, while the broker lives.

    Args:
        wall, monotonic: the clocks of the machine.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset_s = wall() - monotonic()

    def now_s(self) -> float:
        """Return the time; where the wall clock was put back, that: then jobs are kept longer."""
        return min(self._wall(), self._monotonic() + self._offset_s)


def most_at_once(finished: int, limit: int) -> int:
    """Return how many of the finished jobs may be forgotten for their age in one pass."""
    return min(math.ceil(SHARE_AT_ONCE * finished), limit)

"""Say a thing that happens often only once in a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class Seldom:
    """Counts occurrences and tells when to speak of them.

    Args:
        interval_s: the least time between two times of speaking.
        clock: seconds, monotonic.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._count = 0
        self._next_s = float("-inf")

    def due(self) -> int:
        """Count an occurrence; return how many there were when it is time to speak, else 0."""
        self._count += 1
        now_s = self._clock()
        if now_s < self._next_s:
            return 0
        count, self._count = self._count, 0
        self._next_s = now_s + self._interval_s
        return count

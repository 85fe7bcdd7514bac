"""File descriptors: as many as the system gives, and a warning when they run out."""

from __future__ import annotations

import logging
import os
import resource
from typing import Final

LOOK_EVERY_S: Final = 1.0
"""Counting 20,000 descriptors takes some milliseconds; silent peers hold theirs for seconds."""

LOW: Final = 0.9
"""Of the limit: what is left must do for lanes, files of the journal and a look at this list."""

log = logging.getLogger(__name__)


def raise_limit() -> None:
    """Raise this process's limit as far as it may: a peer costs two or three descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors() -> tuple[int, int]:
    """Return how many descriptors are open, and the limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        return len(os.listdir("/proc/self/fd")), limit  # noqa: PTH208 (names are enough)
    except OSError:  # reading the list takes one, too
        return limit, limit


class DescriptorWatch:
    """Counts them now and then, and says so in the log when they become few."""

    def __init__(self) -> None:
        self.open, self.limit = descriptors()
        self.low = False
        self._looked_s = float("-inf")

    @property
    def figures(self) -> dict[str, int | bool]:
        """For `stats`."""
        return {"open": self.open, "limit": self.limit, "low": self.low}

    def look(self, now_s: float) -> None:
        """Count again when it is time."""
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        self.open, self.limit = descriptors()
        low = self.open >= LOW * self.limit
        if low and not self.low:
            log.warning(
                "%d of %d descriptors are in use: soon nobody can connect any more (raise the "
                "limit, `ulimit -Hn`, or find out who opens so many connections)",
                self.open, self.limit,
            )  # fmt: skip
        self.low = low

"""Wait for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def eventually(condition: Callable[[], Seen], timeout_s: float = 10) -> Seen:
    """Return the condition's first true value; fail when it stays false too long."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        seen = condition()
        if seen:
            return seen
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        time.sleep(0.01)

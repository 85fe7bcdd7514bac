"""File descriptors: as many as the system gives, and how many are left."""

from __future__ import annotations

import os
import resource


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

"""Settle the interpreter and the allocator for a process that lives long and serves many jobs."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""Objects made before the collector looks at the young ones: with Python's 700 it looks several
times a job, and finds nothing, for what a job makes goes by counting references."""

KEPT_PIECE_BYTES: Final = 4 * 1024 * 1024
"""Pieces up to this size come from memory that the process keeps: else the kernel would give, and
fill with zeros, the pages of every photo anew. Larger pieces still go back at once."""

KEPT_FREE_BYTES: Final = 64 * 1024 * 1024

# glibc's malloc.h; another C library has no mallopt, and goes without.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def settle() -> None:
    """Call once everything is imported."""
    gc.collect()
    gc.freeze()  # modules, classes and settings stay for good: nothing to look at again
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT_PIECE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES)

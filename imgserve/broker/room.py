"""How many bytes the journal may take, and how many its disk must keep free."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """Bounds of the journal.

    Args:
        journal_bytes: of waiting and finished jobs together.
        retention_bytes: of finished jobs; they are forgotten first.
        disk_free_bytes: what others, and the end of running jobs, need of the disk.
    """

    journal_bytes: int
    retention_bytes: int
    disk_free_bytes: int


def used_bytes(database: sqlite3.Connection) -> int:
    """Return what the journal's rows take; pages that were freed are used again."""
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * page_bytes)


def free_bytes(path: Path) -> int:
    """Return what this user may still write to the journal's disk."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def why_full(used: int, free: int, limits: RoomLimits) -> str:
    """Return why no new job may be taken, or nothing."""
    if free < limits.disk_free_bytes:
        return (
            f"the journal's disk has {free} bytes free; {limits.disk_free_bytes} are kept "
            "(--disk-free-bytes)"
        )
    if used >= limits.journal_bytes:
        return (
            f"the journal has {used} bytes of jobs; {limits.journal_bytes} are allowed "
            "(--journal-bytes)"
        )
    return ""

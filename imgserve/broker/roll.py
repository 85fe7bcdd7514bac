"""The roll in the journal: a row for each worker that may be at work, so that the next life knows.

Dispatch is not journaled: after an unclean end any of these workers may have any unfinished job.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
UNKNOWN: Final = ""
"""Stands for the workers of a journal without a roll (salvaged, or of an earlier version)."""

_CREATE: Final = """
CREATE TABLE IF NOT EXISTS roll (
    incarnation TEXT PRIMARY KEY, life INTEGER NOT NULL, until_s REAL, boot TEXT
) WITHOUT ROWID
"""


def open_roll(database: sqlite3.Connection, *, clean: bool, lease_s: float) -> dict[str, float]:
    """Make the table where it is not there, and return whom a new life has to wait for.

    A worker's lease counts from the start of the life after its own, once: a broker that dies
    again and again waits no longer for it. That start is in monotonic time, which is the
    machine's until it boots again.

    Args:
        database: the journal, in a transaction.
        clean: the former life ended with no job in a worker's hands.
        lease_s: how long a worker may go on without a word from its broker.

    Returns: incarnation -> when its lease is over, in monotonic seconds.
    """
    known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'roll'").fetchone()
    database.execute(_CREATE)
    if clean:
        database.execute("DELETE FROM roll")
        return {}
    now_s, boot = time.monotonic(), BOOT_ID.read_text().strip()
    if not known:
        database.execute("INSERT INTO roll VALUES (?, 0, NULL, NULL)", (UNKNOWN,))
    database.execute(
        "UPDATE roll SET until_s = ?, boot = ? WHERE until_s IS NULL OR boot IS NOT ?",
        (now_s + lease_s, boot, boot),
    )
    return dict(database.execute("SELECT incarnation, until_s FROM roll"))


def enrol(
    database: sqlite3.Connection, incarnation: str, life: int, former: tuple[str, ...]
) -> None:
    """Write a worker down, in the place of those that it was before."""
    database.executemany("DELETE FROM roll WHERE incarnation = ?", [(each,) for each in former])
    database.execute("REPLACE INTO roll VALUES (?, ?, NULL, NULL)", (incarnation, life))


def strike(database: sqlite3.Connection, incarnation: str) -> None:
    """Take a worker off that has left, or whose lease is over."""
    database.execute("DELETE FROM roll WHERE incarnation = ?", (incarnation,))


def strike_former(database: sqlite3.Connection, life: int) -> None:
    """Take all workers of former lives off: none of them is at work any more."""
    database.execute("DELETE FROM roll WHERE life < ?", (life,))

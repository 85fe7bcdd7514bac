"""Open a journal file; when it is damaged, save what can be read and say what could not."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path

from imgserve.broker.schema import prepare

log = logging.getLogger(__name__)

_COLUMNS = "id, submitter, priority, rank, digest, state, progress, payload, finished_s"


def open_or_salvage(path: Path) -> sqlite3.Connection:
    """Return a connection to a sound journal with its tables; a damaged file is set aside.

    Raises:
        JournalTooNewError: a later imgserve wrote it.
        sqlite3.OperationalError: the file cannot be opened (permissions, disk).
    """
    try:
        return _open(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as exc:
        return _salvage(path, exc)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=10)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # FULL: the WAL is fsynced at every commit, so `queued` survives a power cut.
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA temp_store = MEMORY")
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)  # noqa: TRY301 (salvaged by the caller)
        prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def _salvage(path: Path, cause: sqlite3.DatabaseError) -> sqlite3.Connection:
    """Copy every row that can be read to a new file; the damaged one is kept beside it."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    log.error("the journal %s is damaged (%s); it is kept as %s", path, cause, aside.name)
    fresh = _open(path)
    rows, trouble = _readable_rows(aside)
    placeholders = ",".join("?" * 9)
    with fresh:
        fresh.executemany(f"INSERT OR IGNORE INTO job ({_COLUMNS}) VALUES ({placeholders})", rows)  # noqa: S608
    waiting = sum(row[5] == "queued" for row in rows)
    log.error(
        "saved from the damaged journal: %d jobs, %d of them unfinished; not saved: %s",
        len(rows),
        waiting,
        trouble or "nothing that the file's own index knew of",
    )
    return fresh


def _readable_rows(damaged: Path) -> tuple[list[tuple[object, ...]], str]:
    """Read from both ends towards the damage."""
    rows: dict[object, tuple[object, ...]] = {}
    trouble = ""
    for order in ("ASC", "DESC"):
        try:
            database = sqlite3.connect(damaged)
            cursor = database.execute(f"SELECT {_COLUMNS} FROM job ORDER BY id {order}")  # noqa: S608
            for row in cursor:
                rows[row[0]] = row
        except sqlite3.Error as exc:
            last = f"past job {next(reversed(rows))}" if rows else "any job"
            trouble = f"{last} (reading {order.lower()}ending: {exc})"
        finally:
            database.close()
    return list(rows.values()), trouble

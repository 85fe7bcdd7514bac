"""Open a journal file; when it is damaged, save what can be read and say what could not."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from imgserve.broker.schema import prepare

COUNT_WAITING: Final = "SELECT count(*) FROM job WHERE state = 'queued'"

log = logging.getLogger(__name__)

CHECKED_AT_ONCE_BYTES: Final = 64 * 1024 * 1024
"""A larger file is read through in the background: the start would wait many seconds for it."""

_COLUMNS: Final = "id, submitter, priority, rank, digest, state, progress, payload, finished_s"


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
    # Requests hold passwords; SQLite gives its WAL the mode of the file that is there.
    path.touch(mode=0o600)
    database = sqlite3.connect(path, check_same_thread=False, timeout=10)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # FULL: the WAL is fsynced at every commit, so `queued` survives a power cut.
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA temp_store = MEMORY")
        # Ids are random, so inserts touch pages all over: 32 MiB of them stay in memory.
        database.execute("PRAGMA cache_size = -32768")
        if suspect_mark(path).exists() or path.stat().st_size < CHECKED_AT_ONCE_BYTES:
            check(database)
        prepare(database)
        database.execute(COUNT_WAITING)  # reads the whole index of waiting jobs
        suspect_mark(path).unlink(missing_ok=True)
    except BaseException:
        database.close()
        raise
    return database


def check(database: sqlite3.Connection) -> None:
    """Read the whole file through.

    Raises: sqlite3.DatabaseError when something in it is wrong.
    """
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def check_in_background(path: Path, damaged: Callable[[str], None]) -> None:
    """Read a large file through in a thread of its own, and tell when something is wrong."""
    if path.stat().st_size < CHECKED_AT_ONCE_BYTES:
        return

    def read_through() -> None:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            check(database)
        except sqlite3.OperationalError as exc:
            log.warning("the journal could not be checked: %s", exc)
        except sqlite3.DatabaseError as exc:
            damaged(str(exc))
        finally:
            database.close()

    threading.Thread(target=read_through, name="journal-check", daemon=True).start()


def suspect_mark(path: Path) -> Path:
    """The file that makes the next start check the journal first, however large it is."""
    return path.with_name(path.name + ".suspect")


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

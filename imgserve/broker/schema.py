"""The journal's tables and their migrations."""

from __future__ import annotations

import sqlite3
from typing import Final

from imgserve.errors import ImgserveError

VERSION: Final = 1

# job_waiting holds state although it is always 'queued': SQLite then counts without the table.
_CREATE: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE job (
    id TEXT PRIMARY KEY,
    submitter TEXT NOT NULL,
    priority INTEGER NOT NULL,
    rank REAL NOT NULL,
    digest BLOB NOT NULL,
    state TEXT NOT NULL,
    progress BLOB NOT NULL,
    payload BLOB NOT NULL,
    finished_s REAL
) WITHOUT ROWID;
CREATE INDEX job_waiting ON job (rank, id, state) WHERE state = 'queued';
CREATE INDEX job_finished ON job (finished_s) WHERE finished_s IS NOT NULL;
CREATE INDEX job_dead ON job (finished_s) WHERE state = 'failed';
"""

_MIGRATIONS: Final[dict[int, str]] = {}
"""Version -> the script that leads from it to the next."""


class JournalTooNewError(ImgserveError):
    """Raised when the journal was written by a later imgserve."""


def prepare(database: sqlite3.Connection) -> None:
    """Create the tables, or migrate them to this version.

    Raises: JournalTooNewError when a later imgserve wrote them.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise JournalTooNewError(
            f"the journal has schema version {version}, this imgserve reads up to {VERSION}: "
            "start the newer imgserve, or another state folder"
        )
    script = _CREATE if version == 0 else ""
    for step in range(max(version, 1), VERSION):
        script += _MIGRATIONS[step]
    if script:
        database.executescript(f"BEGIN; {script} PRAGMA user_version = {VERSION}; COMMIT;")

"""Dead letters: jobs that ended `failed`, looked at by people and tried again as new jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from imgserve.broker.job import Row, job_of

LIST_LIMIT: Final = 1_000
"""Letters in one answer: it must fit one frame."""

LISTED_DETAIL_CHARS: Final = 500
"""Of each in a list, for the same reason; `show` has it all."""

Letter = Mapping[str, Any]
_COLUMNS: Final = "id, submitter, priority, rank, digest, state, progress, payload, finished_s"


def list_letters(database: sqlite3.Connection) -> tuple[Letter, ...]:
    """Return the latest dead letters, without their requests."""
    rows = database.execute(
        f"SELECT {_COLUMNS} FROM job WHERE state = 'failed' "  # noqa: S608 (constants only)
        "ORDER BY finished_s DESC LIMIT ?",
        (LIST_LIMIT,),
    )
    return tuple(_letter(row, with_payload=False) for row in rows)


def find_letter(database: sqlite3.Connection, job_id: str) -> Letter | None:
    """Return one dead letter with its request."""
    row = database.execute(
        f"SELECT {_COLUMNS} FROM job WHERE id = ? AND state = 'failed'",  # noqa: S608
        (job_id,),
    ).fetchone()
    return None if row is None else _letter(row, with_payload=True)


def drop_letter(database: sqlite3.Connection, job_id: str) -> bool:
    """Forget a dead letter; False when there is none of that id."""
    query = "DELETE FROM job WHERE id = ? AND state = 'failed'"
    return database.execute(query, (job_id,)).rowcount == 1


def _letter(row: tuple[Any, ...], *, with_payload: bool) -> Letter:
    job = job_of(Row._make(row[:8]))
    letter = {
        "id": job.job_id,
        "code": job.code,
        "detail": job.detail if with_payload else job.detail[:LISTED_DETAIL_CHARS],
        "attempts": job.attempts,
        "reasons": job.reasons if with_payload else job.reasons[-1:],
        "priority": job.priority,
        "tag": job.tag,
        "finished_s": row[8],
    }
    return letter | {"payload": job.payload} if with_payload else letter

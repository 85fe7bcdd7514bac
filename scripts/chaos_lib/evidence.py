"""Gathers what is known of every job: ledgers, journal, destinations."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from imgserve.broker.job import Row, job_of
from scripts.chaos_lib.catalog import Versions, digest_of
from scripts.chaos_lib.history import History, Record
from scripts.chaos_lib.jobs import Ends, Flavour
from scripts.chaos_lib.trace import read_lines

COLUMNS = "id, submitter, priority, rank, digest, state, progress, payload"

Catalog = Mapping[tuple[str, int, int], Versions]


def gather(
    ledgers: Iterable[Path], journal: Path, uploads: Path, ends: Ends, catalog: Catalog
) -> dict[str, History]:
    """Return every job's history, by its id.

    Args:
        ledgers: of the submitters.
        journal: of the broker, which is not running.
        uploads: the trace of the HTTP end.
        ends: where the other destinations are.
        catalog: what each picture must become.
    """
    histories: dict[str, History] = {}
    versions: dict[str, Versions] = {}
    by_path: dict[str, str] = {}
    for ledger in ledgers:
        for line in read_lines(ledger):
            job_id = line["job"]
            if line["what"] == "submit":
                flavour = Flavour(line["flavour"])
                history = histories[job_id] = History(job_id=job_id, flavour=flavour)
                versions[job_id] = catalog[line["source"], *line["size"]]
                stored_at = ends.stored_at(line["dst"])
                if stored_at is None:
                    by_path[line["dst"].removeprefix(ends.http)] = job_id
                elif stored_at.is_file():
                    digest = digest_of(stored_at.read_bytes())
                    history.content = versions[job_id].name_of(digest)
            histories[job_id].lines.append(line)
    for line in read_lines(uploads):
        job_id = by_path[line["path"]]
        content = versions[job_id].name_of(line["digest"])
        histories[job_id].uploads.append((line["t"], content))
        histories[job_id].content = content
    for job_id, record in records(journal).items():
        if job_id in histories:
            histories[job_id].record = record
    return histories


def records(journal: Path) -> dict[str, Record]:
    """Read what the journal holds, without changing it."""
    database = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        rows = database.execute(f"SELECT {COLUMNS} FROM job")  # noqa: S608 (constants only)
        return {row[0]: _record(Row._make(row)) for row in rows}
    finally:
        database.close()


def _record(row: Row) -> Record:
    job = job_of(row)
    return Record(
        state=row.state,
        code=job.code,
        detail=job.detail,
        accepted=job.accepted,
        crashes=job.crashes,
        reasons=job.reasons,
    )

"""The journal: SQLite in WAL mode, written in batches by a thread of its own (group commit).

The server puts the core's actions in and gets events out, in an order that the core relies on:
`Appended`, `Updated` and `Finished` of a batch after its commit, then what was read in the same
transaction. A PostgreSQL journal would have the same five methods.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imgserve.broker import actions as act
from imgserve.broker.actions import InternalEvent
from imgserve.broker.job import Row
from imgserve.broker.retention import RetentionClock, most_at_once
from imgserve.broker.roll import open_roll
from imgserve.broker.room import RoomLimits, free_bytes, used_bytes, why_full
from imgserve.broker.salvage import (
    COUNT_WAITING,
    check_in_background,
    open_or_salvage,
    suspect_mark,
)
from imgserve.errors import ImgserveError

log = logging.getLogger(__name__)

BATCH_LIMIT: Final = 5_000
"""Operations in one transaction: a commit then takes tens of milliseconds, not seconds."""

COMMIT_EVERY_S: Final = 0.004
"""Least time between two commits: a lone job waits for none, and under load one fsync serves what
came in the meantime."""

RETRY_S: Final = 0.5
"""Wait after a failed commit (a full disk) before trying again."""

PRUNE_EVERY_S: Final = 10.0
ROOM_EVERY_S: Final = 0.5
ANY_ROOM: Final = RoomLimits(2**62, 2**62, 0)
PRUNE_LIMIT: Final = 5_000
"""Finished jobs forgotten in one transaction."""

_COLUMNS: Final = "id, submitter, priority, rank, digest, state, progress, payload"
_APPEND: Final = f"INSERT INTO job ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"  # noqa: S608
_UPDATE: Final = "UPDATE job SET submitter = ?, progress = ? WHERE id = ?"
_FINISH: Final = (
    "UPDATE job SET submitter = ?, state = ?, progress = ?, payload = ?, finished_s = ? "
    "WHERE id = ?"
)
_PROBE: Final = "REPLACE INTO meta VALUES ('probe', '')"
_LOAD: Final = (
    f"SELECT {_COLUMNS} FROM job WHERE state = 'queued' AND (rank, id) > (?, ?) "  # noqa: S608
    "ORDER BY rank, id LIMIT ?"
)
_FIND: Final = f"SELECT {_COLUMNS} FROM job WHERE id = ?"  # noqa: S608 (constants only)

JournalAction = act.Append | act.Update | act.Finish | act.Load | act.LookUp


class JournalDamagedError(ImgserveError):
    """Raised when the journal turns out to be damaged while the broker runs."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query for people, run in the journal's thread; reply is called by whoever drains."""

    ask: Callable[[sqlite3.Connection], Any]
    reply: Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the journal held when it was opened.

    Args:
        waiting: unfinished jobs.
        life: counts the openings.
        clean: the life before ended with no job in a worker's hands.
        awaited: workers that may be at work on those jobs, and until when (broker/roll.py).
    """

    waiting: int
    life: int
    clean: bool
    awaited: dict[str, float]


class Journal:
    """The journal of one broker.

    Args:
        path: the database file; its folder exists.
        retention_s: how long finished jobs are remembered.
        retention_jobs: how many of them at most.
        lease_s: how long a worker may go on without a word from the broker.
        room: how many bytes it may take.
        notify: called in the journal's thread when `drain` has something.
    """

    def __init__(  # noqa: PLR0913 (each is a setting)
        self,
        path: Path,
        *,
        retention_s: float,
        retention_jobs: int,
        lease_s: float,
        notify: Callable[[], object],
        room: RoomLimits = ANY_ROOM,
    ) -> None:
        self._room = room
        self._looked_s = float("-inf")
        # Why no new job is taken, though what is there can be written; or nothing.
        self.crowded = ""
        self._retention_s = retention_s
        self._retention_jobs = retention_jobs
        self._notify = notify
        self._inbox: queue.SimpleQueue[JournalAction | Question | None] = queue.SimpleQueue()
        self._outbox: deque[InternalEvent | Callable[[], None]] = deque()
        self._carried: list[JournalAction] = []
        self._clock = RetentionClock()
        self._pruned_s = 0.0
        self._committed_s = 0.0
        self.failing = ""
        self._fatal: Exception | None = None
        self._path = path
        self._database = open_or_salvage(path)
        self.recovered = self._recover(lease_s)
        self._thread = threading.Thread(target=self._run, name="journal")
        self._thread.start()
        check_in_background(path, self._mark_damaged)

    def _recover(self, lease_s: float) -> Recovered:
        """Count what waits, and begin a new life."""
        with self._database as database:
            meta = dict(database.execute("SELECT key, value FROM meta"))
            life = int(meta.get("life", 0)) + 1
            database.execute("REPLACE INTO meta VALUES ('life', ?), ('clean', '0')", (str(life),))
            (waiting,) = database.execute(COUNT_WAITING).fetchone()
            # Without a job there is nothing that two workers could be at.
            clean = meta.get("clean") == "1"
            awaited = open_roll(database, clean=clean or not waiting, lease_s=lease_s)
        return Recovered(waiting, life, clean, awaited)

    def put(self, action: JournalAction | Question) -> None:
        """Hand over an action; its event comes out of `drain`."""
        self._inbox.put(action)

    def drain(self) -> list[InternalEvent]:
        """Return the events that are due, and answer the questions."""
        events: list[InternalEvent] = []
        while self._outbox:
            entry = self._outbox.popleft()
            if callable(entry):
                entry()
            else:
                events.append(entry)
        return events

    def check(self) -> None:
        """Raise what ended the journal's thread, if anything did."""
        if self._fatal is not None:
            raise self._fatal

    def close(self, *, clean: bool) -> None:
        """Commit what was put in, and stop.

        Args:
            clean: no worker holds a job, so the next life need not wait for leases to end.
        """
        if clean:
            self.put(Question(_mark_clean, lambda _: None))
        self._inbox.put(None)
        self._thread.join()

    # --- the thread

    def _run(self) -> None:
        self._database.isolation_level = None
        try:
            while self._turn(self._database):
                pass
        except Exception as exc:
            log.exception("the journal's thread ends")
            self._fatal = exc
            self._notify()
        finally:
            self._database.close()

    def _turn(self, database: sqlite3.Connection) -> bool:
        """Commit one batch; False when it was the last."""
        batch, more = self._take_batch()
        self._look_at_room(database)
        if self.crowded:
            batch = self._refuse_new(batch)
        if batch or self.failing:
            self._commit(database, batch)
        if not more and self._carried:
            log.error(
                "the journal ends with %d records that the disk did not take: %s",
                len(self._carried),
                self.failing,
            )
        if time.monotonic() - self._pruned_s > PRUNE_EVERY_S and not self.failing:
            self._prune(database)
        return more

    def _take_batch(self) -> tuple[list[JournalAction | Question], bool]:
        batch: list[JournalAction | Question] = list(self._carried)
        try:
            timeout_s = RETRY_S if self.failing or self.crowded else PRUNE_EVERY_S
            entry = self._inbox.get(timeout=timeout_s)
            time.sleep(max(0.0, self._committed_s + COMMIT_EVERY_S - time.monotonic()))
            while entry is not None:
                batch.append(entry)
                if len(batch) >= BATCH_LIMIT:
                    return batch, True
                entry = self._inbox.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _look_at_room(self, database: sqlite3.Connection) -> None:
        """See whether new jobs still fit; what is under way is written all the same."""
        if time.monotonic() - self._looked_s < ROOM_EVERY_S:
            return
        self._looked_s = time.monotonic()
        try:
            used, free = used_bytes(database), free_bytes(self._path)
        except (sqlite3.Error, OSError) as exc:
            log.warning("the room for the journal cannot be seen: %s", exc)
            return
        crowded = why_full(used, free, self._room)
        if bool(crowded) != bool(self.crowded):
            log.log(
                logging.ERROR if crowded else logging.WARNING,
                "%s", f"{crowded}: new jobs are refused" if crowded else "new jobs fit again",
            )  # fmt: skip
        self.crowded = crowded
        if used > self._room.retention_bytes:
            self._pruned_s = float("-inf")  # finished jobs go first

    def _refuse_new(self, batch: list[JournalAction | Question]) -> list[JournalAction | Question]:
        """Refuse the new jobs of a batch, and return the rest."""
        refused = tuple(entry.row.job_id for entry in batch if isinstance(entry, act.Append))
        if refused:
            self._outbox.append(act.AppendFailed(refused, self.crowded))
            self._notify()
        return [entry for entry in batch if not isinstance(entry, act.Append)]

    def _commit(self, database: sqlite3.Connection, batch: list[JournalAction | Question]) -> None:
        try:
            database.execute("BEGIN IMMEDIATE")
            if self.failing:  # submits are held back until it can write: so it has to try
                database.execute(_PROBE)
            events = _write(database, batch)
            events += _read(database, batch)
            database.execute("COMMIT")
        except sqlite3.Error as exc:
            self._fail(database, batch, exc)
            return
        self._committed_s = time.monotonic()
        if self.failing:
            log.warning("the journal can write again")
        self.failing = ""
        self._carried = []
        self._outbox.extend(events)
        self._notify()

    def _fail(
        self,
        database: sqlite3.Connection,
        batch: list[JournalAction | Question],
        exc: sqlite3.Error,
    ) -> None:
        """Refuse the new jobs of a batch that could not be written; keep the rest for later."""
        if database.in_transaction:
            database.execute("ROLLBACK")
        if not isinstance(exc, sqlite3.OperationalError):
            suspect_mark(self._path).touch()
            raise exc
        if not self.failing:
            log.error("the journal cannot write (%s): new jobs are refused until it can", exc)
        self.failing = str(exc)
        refused = tuple(entry.row.job_id for entry in batch if isinstance(entry, act.Append))
        self._carried = [entry for entry in batch if not isinstance(entry, act.Append | Question)]
        for entry in batch:
            if isinstance(entry, Question):
                self._inbox.put(entry)
        if refused:
            detail = f"the journal cannot write: {exc}"
            self._outbox.append(act.AppendFailed(refused, detail))
        self._notify()
        time.sleep(RETRY_S)

    def _mark_damaged(self, what: str) -> None:
        """End this life: the next one salvages before anything is answered from the file."""
        log.error("the journal %s is damaged: %s", self._path, what)
        suspect_mark(self._path).touch()
        self._fatal = JournalDamagedError(what)
        self._notify()

    def _prune(self, database: sqlite3.Connection) -> None:
        """Forget finished jobs past their time or number, a slice at a time."""
        self._pruned_s = time.monotonic()
        oldest = "SELECT id FROM job WHERE finished_s IS NOT NULL ORDER BY finished_s LIMIT ?"
        try:
            count = "SELECT count(*) FROM job WHERE finished_s IS NOT NULL"
            (finished,) = database.execute(count).fetchone()
            aged = database.execute(
                f"DELETE FROM job WHERE finished_s < ? AND id IN ({oldest})",  # noqa: S608
                (self._clock.now_s() - self._retention_s, most_at_once(finished, PRUNE_LIMIT)),
            ).rowcount
            surplus = finished - aged - self._retention_jobs
            over_bytes = used_bytes(database) - self._room.retention_bytes
            if over_bytes > 0 and finished > aged:
                # A tenth at once: how large each is is not asked.
                surplus = max(surplus, -(-(finished - aged) // 10))
            if surplus > 0:
                database.execute(
                    f"DELETE FROM job WHERE id IN ({oldest})",  # noqa: S608
                    (min(surplus, PRUNE_LIMIT),),
                )
            if surplus > PRUNE_LIMIT:
                self._pruned_s -= PRUNE_EVERY_S  # there is more: go on with the next batch
        except sqlite3.Error as exc:
            log.warning("old jobs could not be forgotten: %s", exc)


def _write(
    database: sqlite3.Connection, batch: Sequence[JournalAction | Question]
) -> list[InternalEvent | Callable[[], None]]:
    appended: dict[str, bool] = {}
    updates: dict[str, act.Update] = {}
    finishes: dict[str, Row] = {}
    for entry in batch:
        if isinstance(entry, act.Append):
            appended[entry.row.job_id] = database.execute(_APPEND, entry.row).rowcount == 1
        elif isinstance(entry, act.Update):
            updates[entry.row.job_id] = entry
        elif isinstance(entry, act.Finish):
            finishes[entry.row.job_id] = entry.row
    rows = [entry.row for entry in updates.values() if entry.row.job_id not in finishes]
    database.executemany(_UPDATE, [(row[1], row[6], row[0]) for row in rows])
    now_s = time.time()
    database.executemany(
        _FINISH, [(row[1], row[5], row[6], row[7], now_s, row[0]) for row in finishes.values()]
    )
    events: list[InternalEvent | Callable[[], None]] = []
    if appended:
        # What was there before is read after the updates, so that it is not out of date.
        existing = [(key, None if new else _find(database, key)) for key, new in appended.items()]
        events.append(act.Appended(tuple(existing)))
    if updates:
        versions = tuple((key, entry.version) for key, entry in updates.items())
        events.append(act.Updated(versions))
    if finishes:
        events.append(act.Finished(tuple(finishes)))
    return events


def _read(
    database: sqlite3.Connection, batch: Sequence[JournalAction | Question]
) -> list[InternalEvent | Callable[[], None]]:
    """Answer what was asked, after all writes of the batch: the core counts on this order."""
    events: list[InternalEvent | Callable[[], None]] = []
    for entry in batch:
        if isinstance(entry, act.Load):
            rows = database.execute(_LOAD, (*entry.after, entry.limit))
            events.append(act.Loaded(tuple(map(Row._make, rows)), entry.limit))
        elif isinstance(entry, act.LookUp):
            found = (_find(database, job_id) for job_id in entry.job_ids)
            rows_found = tuple(row for row in found if row is not None)
            events.append(act.LookedUp(entry.job_ids, rows_found, entry.asker, entry.purpose))
        elif isinstance(entry, Question):
            events.append(_answered(entry, entry.ask(database)))
    return events


def _answered(question: Question, answer: Any) -> Callable[[], None]:
    return lambda: question.reply(answer)


def _find(database: sqlite3.Connection, job_id: str) -> Row | None:
    row = database.execute(_FIND, (job_id,)).fetchone()
    return None if row is None else Row._make(row)


def _mark_clean(database: sqlite3.Connection) -> None:
    database.execute("REPLACE INTO meta VALUES ('clean', '1')")

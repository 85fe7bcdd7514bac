"""The journal over real SQLite files: order, durability, damage, a full disk."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from imgserve.broker import actions as act
from imgserve.broker import journal as journal_module
from imgserve.broker import schema
from imgserve.broker.actions import Purpose
from imgserve.broker.job import Job, job_of, row_of
from imgserve.broker.journal import Journal, Question
from imgserve.broker.retention import RetentionClock
from imgserve.broker.schema import JournalTooNewError
from imgserve.protocol.events import State
from imgserve.protocol.jobs import digest_of
from tests.support.until import until


class Desk:
    """A journal and what came out of it."""

    def __init__(self, path: Path, **limits: float) -> None:
        self.news = threading.Event()
        self.events: list[object] = []
        fields = {"retention_s": 86_400, "retention_jobs": 1_000_000, "lease_s": 5} | limits
        self.journal = Journal(path, notify=self.news.set, **fields)  # type: ignore[arg-type]

    def put(self, *actions: act.Action | Question) -> None:
        """Hand actions over."""
        for action in actions:
            self.journal.put(action)

    def wait(self, kind: type, count: int = 1) -> list[object]:
        """The events of a kind, once there are so many."""

        def found() -> list[object]:
            self.events += self.journal.drain()
            seen = [event for event in self.events if isinstance(event, kind)]
            return seen if len(seen) >= count else []

        return until(found)

    def ask(self, query: str) -> list[tuple[object, ...]]:
        """Run a query in the journal's thread."""
        answers: list[list[tuple[object, ...]]] = []
        self.put(Question(lambda db: db.execute(query).fetchall(), answers.append))
        until(lambda: self.journal.drain() or answers)
        return answers[0]


@contextmanager
def opened(path: Path, *, clean: bool = False, **limits: float) -> Iterator[Desk]:
    """A journal for the length of a block."""
    desk = Desk(path, **limits)
    try:
        yield desk
    finally:
        desk.journal.close(clean=clean)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal may be."""
    return tmp_path / "journal.sqlite3"


def job(name: str, *, rank: float = 1.0, payload: bytes = b"{}") -> Job:
    """A fresh job."""
    return Job(name, ("topic",), 0, rank, digest_of(payload), payload)


def append(name: str, **fields: object) -> act.Append:
    """What stores a fresh job."""
    return act.Append(row_of(job(name, **fields)))  # type: ignore[arg-type]


def finish(name: str, state: State = State.DONE, code: int = 0) -> act.Finish:
    """What ends one."""
    return act.Finish(row_of(replace(job(name), state=state, code=code, attempt=1)))


# --- what goes in comes out


def test_an_append_is_answered_and_can_be_loaded(path):
    """The row that comes back is the row that went in."""
    with opened(path) as desk:
        row = row_of(job("a"))
        desk.put(act.Append(row), act.Load((float("-inf"), ""), 5))
        (appended,) = desk.wait(act.Appended)
        (loaded,) = desk.wait(act.Loaded)
        assert appended.results == (("a", None),)
        assert loaded == act.Loaded((row,), 5)


def test_an_append_of_a_known_id_is_answered_with_its_row(path):
    """Nothing is overwritten."""
    with opened(path) as desk:
        desk.put(append("a"))
        desk.wait(act.Appended)
        desk.put(append("a", payload=b"other"))
        _, again = desk.wait(act.Appended, 2)
        ((job_id, existing),) = again.results
        assert (job_id, existing.payload) == ("a", b"{}")


def test_an_existing_row_is_read_after_the_updates_before_it(path):
    """A resubmit in the batch of an update sees the update."""
    with opened(path) as desk:
        desk.put(append("a"))
        desk.wait(act.Appended)
        with held_back(desk):
            accepted = replace(job("a"), accepted=True, attempt=1)
            desk.put(act.Update(row_of(accepted), 1), append("a"))
        _, again = desk.wait(act.Appended, 2)
        assert job_of(again.results[0][1]).accepted


@contextmanager
def held_back(desk: Desk) -> Iterator[None]:
    """Keep the journal's thread busy, so that what is put makes one batch."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(10)

    desk.put(Question(wait, lambda _: None))
    assert begun.wait(10)
    yield
    go_on.set()


def test_writes_of_a_batch_are_told_before_what_was_read(path):
    """Appended, updated, finished, then loaded and looked up: the core counts on it."""
    with opened(path) as desk:
        desk.put(append("a"), append("b"))
        desk.wait(act.Appended)
        with held_back(desk):
            desk.put(
                act.Load((float("-inf"), ""), 9),
                act.LookUp(("b", "ghost"), "asker", Purpose.REPLAY),
                finish("b"),
                act.Update(row_of(replace(job("a"), attempt=1, accepted=True)), 3),
                append("c"),
            )
        desk.wait(act.LookedUp)
        kinds = [type(event) for event in desk.events[1:]]
        assert kinds == [act.Appended, act.Updated, act.Finished, act.Loaded, act.LookedUp]
        _, _, updated, finished, loaded, looked_up = desk.events
        assert updated.results == (("a", 3),)
        assert finished.job_ids == ("b",)
        assert [row.job_id for row in loaded.rows] == ["a", "c"]
        assert [(row.job_id, row.state) for row in looked_up.rows] == [("b", "done")]


def test_a_batch_is_one_commit(path):
    """Group commit: a thousand jobs cost one fsync, not a thousand."""
    with opened(path) as desk:
        with held_back(desk):
            desk.put(*(append(f"j{number}") for number in range(1000)))
        (appended,) = desk.wait(act.Appended)
        assert len(appended.results) == 1000


def test_jobs_are_loaded_by_rank_after_the_one_named(path):
    """The horizon is where the last load ended."""
    with opened(path) as desk:
        desk.put(*(append(name, rank=rank) for name, rank in (("a", 3), ("b", 1), ("c", 2))))
        desk.put(append("d", rank=2.0), finish("b"))
        desk.put(act.Load((float("-inf"), ""), 2), act.Load((2.0, "d"), 2))
        first, second = desk.wait(act.Loaded, 2)
        assert [row.job_id for row in first.rows] == ["c", "d"]
        assert [row.job_id for row in second.rows] == ["a"]


def test_a_commit_is_on_disk_before_it_is_told(path):
    """Another connection sees it; the WAL is fsynced at each commit."""
    with opened(path) as desk:
        desk.put(append("a"))
        desk.wait(act.Appended)
        other = sqlite3.connect(path)
        assert other.execute("SELECT id FROM job").fetchall() == [("a",)]
        other.close()
        assert desk.ask("PRAGMA synchronous") == [(2,)]  # FULL
        assert desk.ask("PRAGMA journal_mode") == [("wal",)]


def test_a_job_that_ended_well_keeps_no_payload(path):
    """A failed one keeps it, so that it can be tried again."""
    with opened(path) as desk:
        desk.put(append("a"), append("b"), finish("a"), finish("b", State.FAILED, 401))
        desk.wait(act.Finished)
        rows = desk.ask("SELECT id, payload FROM job ORDER BY id")
        assert rows == [("a", b""), ("b", b"{}")]


def test_what_is_known_of_a_job_survives_the_row(path):
    """Everything that outlives the broker comes back as it was."""
    before = replace(
        job("a"),
        attempt=3,
        attempts=2,
        retries=1,
        crashes=1,
        accepted=True,
        cancelled=True,
        verdict=406,
        dst_url="ftp://d/ü.png",
        reasons=("one", "two"),
        submitters=("t1", "t2"),
        seconds={"fetch": 0.25},
    )
    after = job_of(row_of(before))
    skipped = {"phase"}
    for name in Job.__dataclass_fields__.keys() - skipped:
        assert getattr(after, name) == getattr(before, name), name


# --- lives


def test_a_new_life_counts_what_waits(path):
    """Ended jobs do not."""
    with opened(path) as desk:
        assert (desk.journal.recovered.waiting, desk.journal.recovered.life) == (0, 1)
        desk.put(append("a"), append("b"), append("c"), finish("b"))
    with opened(path) as desk:
        assert (desk.journal.recovered.waiting, desk.journal.recovered.life) == (2, 2)


@pytest.mark.parametrize("clean", [True, False])
def test_a_clean_end_is_remembered_for_one_life(path, clean):
    """Only then need the next life not wait for leases."""
    with opened(path, clean=clean):
        pass
    with opened(path) as desk:
        assert desk.journal.recovered.clean is clean
    with opened(path) as desk:
        assert not desk.journal.recovered.clean


def test_what_was_put_before_the_end_is_committed(path):
    """Closing is no way to lose something."""
    with opened(path) as desk:
        desk.put(*(append(f"j{number}") for number in range(12_000)))
    with opened(path) as desk:
        assert desk.journal.recovered.waiting == 12_000


# --- retention


@pytest.fixture
def _prunes_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "PRUNE_EVERY_S", 0.02)


@pytest.mark.usefixtures("_prunes_always")
def test_ended_jobs_are_forgotten_after_their_time(path):
    """Waiting ones never are."""
    with opened(path, retention_s=0.05) as desk:
        desk.put(append("a"), append("b"), finish("a"))
        until(lambda: desk.ask("SELECT id FROM job") == [("b",)])


def test_a_wall_clock_put_ahead_forgets_at_most_a_share_in_each_pass(path, monkeypatch):
    """Within a life none; a life that begins with it forgets a hundredth each pass."""
    names = [f"j{number}" for number in range(200)]
    with opened(path) as desk:
        desk.put(*(append(name) for name in names), *(finish(name) for name in names))
        desk.wait(act.Finished)
        ahead_s = time.time() + 90_000
        with monkeypatch.context() as jump:
            jump.setattr(desk.journal._clock, "_wall", lambda: ahead_s)
            desk.journal._prune(sqlite3.connect(path, isolation_level=None))
            assert desk.ask("SELECT count(*) FROM job") == [(200,)]
            jump.setattr(desk.journal, "_clock", RetentionClock(lambda: ahead_s))
            desk.journal._prune(sqlite3.connect(path, isolation_level=None))
            assert desk.ask("SELECT count(*) FROM job") == [(198,)]


@pytest.mark.usefixtures("_prunes_always")
def test_ended_jobs_beyond_their_number_are_forgotten_oldest_first(path):
    """The journal's size is bounded."""
    with opened(path, retention_jobs=2) as desk:
        for name in "abcd":
            desk.put(append(name), finish(name))
            desk.wait(act.Finished, "abcd".index(name) + 1)
        until(lambda: desk.ask("SELECT id FROM job ORDER BY id") == [("c",), ("d",)])


# --- versions


def test_a_journal_of_a_later_version_is_refused(path):
    """It names both versions, and changes nothing."""
    with opened(path):
        pass
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    with pytest.raises(JournalTooNewError, match=r"99.*reads up to 1"):
        Desk(path)


def test_an_older_journal_is_migrated(path, monkeypatch):
    """Step by step, in one transaction, with its jobs."""
    with opened(path) as desk:
        desk.put(append("a"))
    monkeypatch.setattr(schema, "VERSION", 3)
    steps = {1: "ALTER TABLE job ADD COLUMN one TEXT;", 2: "ALTER TABLE job ADD COLUMN two TEXT;"}
    monkeypatch.setattr(schema, "_MIGRATIONS", steps)
    with opened(path) as desk:
        assert desk.ask("SELECT id, one, two FROM job") == [("a", None, None)]
        assert desk.ask("PRAGMA user_version") == [(3,)]


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    """The version stays with the tables."""
    with opened(path):
        pass
    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setattr(schema, "_MIGRATIONS", {1: "ALTER TABLE job ADD COLUMN x; NONSENSE;"})
    with pytest.raises(sqlite3.OperationalError):
        Desk(path)
    monkeypatch.undo()
    with opened(path) as desk:
        assert desk.ask("PRAGMA user_version") == [(1,)]


# --- a full disk


def test_a_full_disk_refuses_new_jobs_and_loses_none(path, monkeypatch, caplog):
    """What was told stays, ends wait for room, and work goes on by itself."""
    monkeypatch.setattr(journal_module, "RETRY_S", 0.02)
    with opened(path) as desk:
        desk.put(append("a"))
        desk.wait(act.Appended)
        desk.ask("PRAGMA max_page_count = 1")  # SQLite takes the present size as the least
        number = 0
        while not any(isinstance(event, act.AppendFailed) for event in desk.events):
            number += 1
            desk.put(append(f"big{number}", payload=os.urandom(60_000)))
            time.sleep(0.002)
            desk.events += desk.journal.drain()
        assert desk.journal.failing
        assert "full" in caplog.text
        failed = {j for e in desk.events if isinstance(e, act.AppendFailed) for j in e.job_ids}
        _lift(desk)
        until(lambda: not desk.journal.failing)
        assert "can write again" in caplog.text
        known = {row[0] for row in desk.ask("SELECT id FROM job")}
        assert "a" in known
        assert not failed & known


def _lift(desk: Desk) -> None:
    """Make room, from another thread: the connection allows it between two statements."""
    desk.journal._database.execute("PRAGMA max_page_count = 1000000")


class FullDisk:
    """A connection whose writes fail as on a full disk while `full` is set."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.full = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def execute(self, query: str, *values: object) -> sqlite3.Cursor:
        """Execute, unless the disk is full."""
        if self.full and query == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self._database.execute(query, *values)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], FullDisk]:
    """A disk that a test can fill."""
    made: list[FullDisk] = []
    real = journal_module.open_or_salvage

    def wrapped(path: Path) -> FullDisk:
        made.append(FullDisk(real(path)))
        return made[-1]

    monkeypatch.setattr(journal_module, "RETRY_S", 0.02)
    monkeypatch.setattr(journal_module, "open_or_salvage", wrapped)
    # `with database` needs the real one's methods on the type
    monkeypatch.setattr(
        FullDisk, "__enter__", lambda self: self._database.__enter__(), raising=False
    )
    monkeypatch.setattr(
        FullDisk, "__exit__", lambda self, *why: self._database.__exit__(*why), raising=False
    )
    return lambda: made[-1]


def test_an_end_that_found_no_room_is_told_once_there_is(path, full_disk):
    """It is carried over, in order, and not told before its commit."""
    with opened(path) as desk:
        desk.put(append("a"))
        desk.wait(act.Appended)
        full_disk().full = True
        desk.put(act.Update(row_of(replace(job("a"), attempt=1)), 1), finish("a"), append("b"))
        desk.wait(act.AppendFailed)
        assert not any(isinstance(event, act.Finished) for event in desk.events)
        full_disk().full = False
        desk.wait(act.Finished)
        assert desk.ask("SELECT id, state FROM job") == [("a", "done")]


def test_a_journal_that_only_refused_jobs_finds_room_by_itself(path, full_disk):
    """Submitters hold back while it fails, so it has to try without them."""
    with opened(path) as desk:
        full_disk().full = True
        desk.put(append("a"))
        desk.wait(act.AppendFailed)
        assert not any(isinstance(event, act.Appended) for event in desk.events)
        assert desk.journal.failing
        full_disk().full = False
        until(lambda: not desk.journal.failing)


def test_an_unexpected_end_of_the_thread_is_raised(path, caplog):
    """A journal that only seems to live helps nobody."""
    desk = Desk(path)
    desk.put(Question(lambda _: 1 // 0, lambda _: None))
    assert desk.news.wait(10)
    with pytest.raises(ZeroDivisionError):
        until(desk.journal.check)
    desk.journal.close(clean=False)


# --- damage


def wal_of(tmp_path: Path, count: int) -> tuple[Path, list[int]]:
    """A journal as a killed broker leaves it: `count` commits in the WAL; their ends in bytes."""
    path, copy = tmp_path / "live.sqlite3", tmp_path / "killed.sqlite3"
    ends = []
    with opened(path) as desk:
        wal = Path(f"{path}-wal")
        for number in range(count):
            desk.put(append(f"j{number}", rank=float(number)))
            desk.wait(act.Appended, number + 1)
            ends.append(wal.stat().st_size)
        shutil.copy(path, copy)
        shutil.copy(wal, f"{copy}-wal")
    return copy, ends


def frame_ends(wal: bytes) -> list[int]:
    """Where each frame of a WAL ends (https://sqlite.org/fileformat2.html#the_write_ahead_log)."""
    (page_bytes,) = struct.unpack(">I", wal[8:12])
    return list(range(32, len(wal) + 1, 24 + page_bytes))


def test_a_wal_cut_anywhere_recovers_exactly_the_commits_before_the_cut(tmp_path):
    """At each frame's boundary, one byte before, in its middle: the committed prefix, no more."""
    source, ends = wal_of(tmp_path, 8)
    wal = Path(f"{source}-wal").read_bytes()
    cuts = {0, 1, len(wal)}
    for before, end in zip((0, *frame_ends(wal)), frame_ends(wal), strict=False):
        cuts |= {end, end - 1, end + 7, (before + end) // 2}
    first = _recovered(source, wal[:0], tmp_path / "none")
    known_before = len(first)
    for cut in sorted(cuts):
        committed = sum(end <= cut for end in ends)
        jobs = _recovered(source, wal[:cut], tmp_path / f"cut{cut}")
        assert jobs == {f"j{number}" for number in range(max(committed, known_before))}, cut


def _recovered(source: Path, wal: bytes, folder: Path) -> set[object]:
    folder.mkdir()
    path = folder / "journal.sqlite3"
    shutil.copy(source, path)
    Path(f"{path}-wal").write_bytes(wal)
    with opened(path) as desk:
        return {row[0] for row in desk.ask("SELECT id FROM job")}


def test_a_wal_with_a_flipped_bit_recovers_the_commits_before_it(tmp_path):
    """A frame's checksum covers all before it."""
    source, ends = wal_of(tmp_path, 4)
    wal = bytearray(Path(f"{source}-wal").read_bytes())
    wal[ends[2] - 100] ^= 1
    assert _recovered(source, bytes(wal), tmp_path / "flipped") == {"j0", "j1"}


def test_a_damaged_journal_is_salvaged_and_reported(path, caplog):
    """What can be read is saved, what cannot is said, the damaged file is kept."""
    with opened(path) as desk:
        desk.put(*(append(f"j{number:04}", payload=os.urandom(900)) for number in range(600)))
    database = sqlite3.connect(path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = path.stat().st_size // 4096
    database.close()
    with path.open("r+b") as file:
        file.seek(pages // 2 * 4096)
        file.write(os.urandom(4096))
    caplog.set_level(logging.ERROR)
    with opened(path) as desk:
        saved = desk.journal.recovered.waiting
        assert desk.ask("PRAGMA quick_check") == [("ok",)]
    assert 100 < saved < 600
    assert (
        f"saved from the damaged journal: {saved} jobs, {saved} of them unfinished" in caplog.text
    )
    assert "not saved: past job" in caplog.text
    assert list(path.parent.glob("*.damaged-*"))


def test_a_file_that_is_no_database_is_set_aside_and_reported(path, caplog):
    """The broker starts empty and says so."""
    path.write_bytes(b"no database at all " * 500)
    with opened(path) as desk:
        assert desk.journal.recovered.waiting == 0
    assert "saved from the damaged journal: 0 jobs" in caplog.text
    assert "not saved: any job" in caplog.text
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_bytes().startswith(b"no database")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    """Not a salvage: the file may be quite sound."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "journal.sqlite3").mkdir()  # root may write anywhere, but not into a folder
    with pytest.raises(sqlite3.OperationalError):
        Desk(folder / "journal.sqlite3")
    assert stat.S_ISDIR((folder / "journal.sqlite3").stat().st_mode)

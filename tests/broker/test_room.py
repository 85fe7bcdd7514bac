"""Bounds of the journal in bytes: new jobs are refused, finished ones are forgotten early."""

from __future__ import annotations

import os
from pathlib import Path

from imgserve.broker import actions as act
from imgserve.broker import journal as module
from imgserve.broker.job import Job, job_of, row_of
from imgserve.broker.room import RoomLimits
from imgserve.broker.states import Phase
from imgserve.protocol.events import State
from imgserve.protocol.jobs import digest_of
from tests.broker.test_journal import opened
from tests.support.until import until

LONG = b'{"a":"' + os.urandom(15_000).hex().encode() + b'"}'
ANY = 2**62


def a_job(name: str, payload: bytes = LONG) -> Job:
    """A job that waits."""
    return Job(name, ("me",), 0, 1.0, digest_of(payload), payload)


def ended(name: str) -> Job:
    """The same, done, with a long destination."""
    job = a_job(name)
    job.phase, job.state, job.attempt, job.dst_url = Phase.ENDED, State.DONE, 1, LONG.decode()
    return job


def test_long_jobs_are_compressed_and_read_as_they_were():
    """In the journal they take less; a short one is left alone."""
    for job in (a_job("j"), a_job("s", b"{}"), ended("d")):
        row = row_of(job)
        back = job_of(row)
        assert (back.payload, back.dst_url) == (
            job.payload if job.state is None else b"",
            job.dst_url,
        )
    assert len(row_of(a_job("j")).payload) < 0.6 * len(LONG)
    assert row_of(a_job("s", b"{}")).payload == b"{}"


def test_journal_that_is_full_refuses_new_jobs_and_ends_old_ones(tmp_path: Path, monkeypatch):
    """The sentence names the setting; when jobs were forgotten, new ones fit again."""
    monkeypatch.setattr(module, "ROOM_EVERY_S", 0.0)
    monkeypatch.setattr(module, "PRUNE_EVERY_S", 0.05)
    limits = RoomLimits(journal_bytes=400_000, retention_bytes=ANY, disk_free_bytes=0)
    with opened(tmp_path / "journal.sqlite3", room=limits) as desk:
        number = 0
        while not desk.journal.crowded:
            number += 1
            assert number < 100
            desk.put(act.Append(row_of(a_job(f"j{number}"))))
            until(lambda: desk.wait(act.Appended, 0) is not None)
            desk.ask("SELECT 1")
        desk.put(act.Append(row_of(a_job("late"))))
        (failed,) = desk.wait(act.AppendFailed)
        assert failed.job_ids == ("late",)
        assert "--journal-bytes" in failed.detail
        for done in range(1, number):
            desk.put(act.Finish(row_of(ended(f"j{done}"))))
        desk.wait(act.Finished)
        desk.ask("DELETE FROM job WHERE finished_s IS NOT NULL")
        until(lambda: not desk.journal.crowded)
        desk.put(act.Append(row_of(a_job("fits", b"{}"))))
        until(lambda: any("fits" in dict(each.results) for each in desk.wait(act.Appended, 0)))


def test_disk_that_has_little_room_refuses_new_jobs(tmp_path: Path, monkeypatch):
    """Before it is full: what runs can still be written down."""
    monkeypatch.setattr(module, "ROOM_EVERY_S", 0.0)
    free = [10**6]
    monkeypatch.setattr(module, "free_bytes", lambda _path: free[0])
    limits = RoomLimits(ANY, ANY, disk_free_bytes=10**7)
    with opened(tmp_path / "journal.sqlite3", room=limits) as desk:
        desk.put(act.Append(row_of(a_job("a"))))
        (failed,) = desk.wait(act.AppendFailed)
        assert "--disk-free-bytes" in failed.detail
        free[0] = 10**8
        until(lambda: not desk.journal.crowded)
        desk.put(act.Append(row_of(a_job("b"))))
        desk.wait(act.Appended)


def test_finished_jobs_are_forgotten_when_they_take_too_much(tmp_path: Path, monkeypatch):
    """The oldest first, whatever their age; what waits stays."""
    monkeypatch.setattr(module, "ROOM_EVERY_S", 0.0)
    monkeypatch.setattr(module, "PRUNE_EVERY_S", 0.01)
    limits = RoomLimits(ANY, retention_bytes=300_000, disk_free_bytes=0)
    with opened(tmp_path / "journal.sqlite3", room=limits) as desk:
        desk.put(act.Append(row_of(a_job("waits", b"{}"))))
        for number in range(60):
            desk.put(act.Append(row_of(a_job(f"j{number}", b"{}"))))
            desk.put(act.Finish(row_of(ended(f"j{number}"))))
        desk.wait(act.Finished)
        count = "SELECT count(*) FROM job WHERE finished_s IS NOT NULL"
        until(lambda: 0 < desk.ask(count)[0][0] < 25)
        assert desk.ask("SELECT id FROM job WHERE finished_s IS NULL") == [("waits",)]

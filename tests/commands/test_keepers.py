"""Whoever keeps a part alive outlives what the system refuses it, and never ends in silence."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import signal

import pytest

from imgserve.commands import several
from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.listening import listen
from imgserve.commands.logs import configure
from imgserve.commands.part import Part
from imgserve.commands.processes import alive
from imgserve.commands.service_file import ServiceRecord
from imgserve.config import Settings
from tests.support.command_line import environment
from tests.support.eventually import eventually
from tests.support.supervised import supervise

PARTS = ("gateway", "broker", "worker")


@contextlib.contextmanager
def limited(pid, which, soft):
    """Lower a process's own soft limit; the kernel then refuses it what it asks for."""
    former = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (soft, former[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, which, former)


def log_has(service, text):
    return text in (service.state / "imgserve.log").read_text()


def serves_again(service, before):
    """Every part was replaced and recorded, by the supervisor that was there."""
    after = service.record
    replaced = all(after.parts[part] and after.parts[part] != before.parts[part] for part in PARTS)
    return after.pid == before.pid and replaced and service.status()["ready"]


def test_no_keeper_ends_where_no_process_can_be_started(service):
    """Without a descriptor for its pipe no child is forked; once there are some, all are."""
    service.start()
    before = service.record
    with limited(before.pid, resource.RLIMIT_NOFILE, 3):
        for part in PARTS:
            os.kill(before.parts[part][0], signal.SIGKILL)
        for part in PARTS:
            eventually(lambda part=part: log_has(service, f"{part} cannot be started"))
    eventually(lambda: serves_again(service, before), timeout_s=30)


def test_no_keeper_ends_where_its_record_cannot_be_written(service):
    """The record is written once that is possible again; the parts do not wait for it."""
    service.start()
    before = service.record
    os.truncate(service.state / "imgserve.log", 0)
    with limited(before.pid, resource.RLIMIT_FSIZE, 0):
        for part in PARTS:
            os.kill(before.parts[part][0], signal.SIGKILL)
        # Neither the record nor a log can be written: only the processes show what happens.
        eventually(lambda: not any(alive(before.parts[part][0]) for part in PARTS))
    eventually(lambda: serves_again(service, before), timeout_s=40)


def test_a_signal_without_a_name_is_an_end_like_any_other(service):
    """Most real-time signals have none in Python."""
    service.start()
    before = service.record
    os.kill(before.parts["gateway"][0], signal.SIGRTMIN + 3)
    eventually(lambda: service.record.restarts == 1 and service.status()["ready"], timeout_s=20)


def test_a_keeper_that_ends_by_a_defect_ends_the_service(tmp_path, monkeypatch, caplog):
    """Loudly: the log names the part, the exit code is SOFTWARE, and no part is left."""
    write = ServiceRecord.write

    def write_or_fail(record, path):
        if record.phase == "running" and not record.parts["gateway"]:
            raise ZeroDivisionError("a defect")
        write(record, path)

    monkeypatch.setattr(ServiceRecord, "write", write_or_fail)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    seen = []

    def announce(news):
        seen.append(news)
        pids.extend(pid for each in news.record.parts.values() for pid in each)
        os.kill(news.record.parts["gateway"][0], signal.SIGKILL)

    pids: list[int] = []
    settings = Settings(state=tmp_path, port=0, broker_port=0, processes=1)
    code = supervise(settings, listen("127.0.0.1", 0, "-port"), announce, tmp_path / "log")
    assert [news.ready for news in seen] == [True]
    assert code == ExitCode.SOFTWARE
    assert "the keeper of the gateway ended by ZeroDivisionError: a defect" in caplog.text
    assert len(pids) == 3
    assert not any(alive(pid) for pid in pids)


def test_several_workers_end_when_one_of_them_has_no_keeper(tmp_path, monkeypatch, caplog):
    """The command that keeps them ends with SOFTWARE rather than go on with fewer."""

    async def defect(_part):
        raise ZeroDivisionError("a defect")

    async def run():
        return await several.serve(Settings(state=tmp_path), 2, stop=asyncio.Event())

    monkeypatch.setattr(Part, "_live", defect)
    assert asyncio.run(asyncio.wait_for(run(), 20)) == ExitCode.SOFTWARE
    assert "the keeper of the worker ended by ZeroDivisionError" in caplog.text


def test_a_log_that_cannot_be_opened_again_ends_nobody(tmp_path):
    """Renamed away, and then not to be made anew: lines are lost until it can be."""
    path = tmp_path / "logs" / "imgserve.log"
    path.parent.mkdir()
    root = logging.getLogger()
    former, level = root.handlers[:], root.level
    root.handlers = []  # configure(force) closes those it finds
    try:
        configure("test", path)
        log = logging.getLogger("imgserve.test")
        log.error("first")
        path.parent.rename(tmp_path / "away")
        log.error("lost")
        path.parent.mkdir()
        log.error("second")
        assert path.read_text().rstrip().endswith("second")
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers, root.level = former, level


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_record_that_cannot_be_renamed_leaves_no_draft(tmp_path, monkeypatch, failure):
    """The former record stays, whole."""
    path = tmp_path / "service.json"
    record = ServiceRecord(pid=1, version="1", url="", host="", port=1, started_at="")
    record.write(path)

    def refuse(*_args):
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr("pathlib.Path.rename", refuse)
    with pytest.raises(OSError, match=os.strerror(failure)):
        record.write(path)
    assert [each.name for each in tmp_path.iterdir()] == ["service.json"]
    assert ServiceRecord.read(path) == record

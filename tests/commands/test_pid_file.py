"""The pid file is a lock."""

from __future__ import annotations

import os

from imgserve.commands.pid_file import PidFile, running_pid


def test_one_holder_at_a_time(tmp_path):
    """While one holds the file nobody else can; afterwards anybody can."""
    path = tmp_path / "imgserve.pid"
    first, second = PidFile(path), PidFile(path)
    assert first.acquire()
    first.write()
    assert not second.acquire()
    assert running_pid(path) == os.getpid()
    first.release()
    assert not path.exists()
    assert running_pid(path) is None
    assert second.acquire()
    second.release()


def test_a_pid_without_a_holder_is_nobody(tmp_path):
    """The number in the file means nothing without the lock: pids are used again."""
    path = tmp_path / "imgserve.pid"
    path.write_text(f"{os.getpid()}\n")
    assert running_pid(path) is None


def test_the_lock_lasts_as_long_as_a_child_has_it(tmp_path):
    """A child that inherits the descriptor keeps the lock when the parent forgets it."""
    path = tmp_path / "imgserve.pid"
    holder = PidFile(path)
    assert holder.acquire()
    kept = os.dup(holder.descriptor)
    holder.forget()
    assert running_pid(path) == 0
    os.close(kept)
    assert running_pid(path) is None

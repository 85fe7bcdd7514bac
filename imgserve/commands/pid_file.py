"""The pid file, which is also the lock: whoever holds its lock is the running service.

The lock ends with its holder, however that dies, so a stale file never blocks a start and a pid
that was given to another program is never taken for the service.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class PidFile:
    """The pid file of a service that this process is, or is about to become."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = -1

    def acquire(self) -> bool:
        """Take the lock; return False when a running service holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if not _is_file(descriptor, self._path):  # its last holder removed it in between
            os.close(descriptor)
            return self.acquire()
        self.descriptor = descriptor
        return True

    def write(self) -> None:
        """Say which process holds the lock: this one."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Remove the file, then let go of the lock."""
        self._path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Close this process's descriptor; a child that has it keeps the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def running_pid(path: Path) -> int | None:
    """Return the pid of the running service, or None; 0 while one is just starting."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

"""Files beneath a root, where no `..`, symlink or /proc link leads out: openat2(2) by ctypes."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imgserve.worker.transfers.parcel import UploadedBy

# The number is the same on every architecture. Source: openat2(2).
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
# The kernel answers EAGAIN when a rename elsewhere raced with a lookup of `..`.
_RACE_TRIES = 8
_CHUNK_BYTES = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


def open_beneath(folder: int, path: str, flags: int) -> int:
    """Open a path that cannot lead out of a folder.

    Args:
        folder: the folder's descriptor.
        path: relative to it.
        flags: as for os.open.

    Raises:
        OSError: EXDEV for a way out, ELOOP for a symbolic link, and all that open(2) says.
        ValueError: the path holds a NUL byte.
    """
    if "\0" in path:
        # ctypes would cut the path there, and another file than the one named would open.
        raise ValueError("a path holds no NUL")
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE)
    for _ in range(_RACE_TRIES):
        opened: int = _libc.syscall(
            _SYS_OPENAT2, folder, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)
        )
        if opened >= 0:
            return opened
        number = ctypes.get_errno()
        if number != errno.EAGAIN:
            break
    raise OSError(number, os.strerror(number))


def read_beneath(root: Path, path: str, limit_bytes: int) -> bytes | None:
    """Read a regular file whole, or return None where it is longer than the limit."""
    with _folder(root) as top:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        opened = open_beneath(top, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(opened, "rb", buffering=0) as file:
            status = os.fstat(opened)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            if status.st_size > limit_bytes:
                return None
            # All of it at once, then what it has grown by; that must not pass the limit either.
            body = file.read(status.st_size)
            while grown := file.read(min(_CHUNK_BYTES, limit_bytes + 1 - len(body))):
                body += grown
            return body if len(body) <= limit_bytes else None


def write_beneath(
    root: Path,
    path: str,
    body: bytes,
    *,
    by: UploadedBy,
    may_appear: Callable[[], bool] = lambda: True,
) -> None:
    """Write a file: missing folders are made, and it appears whole or not at all.

    Args:
        root: the folder that the path may not leave.
        path: relative to it.
        body: the whole content.
        by: the attempt; its result is on disk before it appears.
        may_appear: asked last of all; the disk may have taken its time.
    """
    *folders, name = path.split("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EISDIR, "the path names a folder")
    with _folder(root) as top:
        current = os.dup(top)
        try:
            for folder in folders:
                current = _step(current, folder)
            _write_whole(current, name, body, by, may_appear)
        finally:
            os.close(current)


def _step(current: int, folder: str) -> int:
    """Enter a folder, making it where it is missing; `current` is closed when entered."""
    if folder in ("", "."):
        return current
    with suppress(FileExistsError):
        os.mkdir(folder, dir_fd=current)
    entered = open_beneath(current, folder, os.O_PATH | os.O_DIRECTORY)
    os.close(current)
    return entered


def _write_whole(
    folder: int, name: str, body: bytes, by: UploadedBy, may_appear: Callable[[], bool]
) -> None:
    temporary = by.temporary
    for left in (temporary, *by.former):  # by workers that were killed while they wrote
        with suppress(FileNotFoundError):
            os.unlink(left, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(temporary, flags, 0o666, dir_fd=folder)
    try:
        with os.fdopen(opened, "wb", buffering=0) as file:
            rest = memoryview(body)
            while rest:
                rest = rest[file.write(rest) :]
            if by.is_result:
                # Else a name that is on disk could lead to data that are not (fsync(2), rename(2)).
                os.fsync(file.fileno())
        if not may_appear():
            raise OSError(errno.ECANCELED, "the worker's lease is over")  # noqa: TRY301 (undone below)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        if by.is_result:
            _sync_folder(folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _sync_folder(folder: int) -> None:
    """Bring the new name to disk; the folder was opened for its path alone."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)


@contextmanager
def _folder(root: Path) -> Iterator[int]:
    opened = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)

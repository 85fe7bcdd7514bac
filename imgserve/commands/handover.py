"""STATE/handover.sock: a restart takes the listening sockets of the service that it replaces.

Connections then wait in the sockets' backlog until the new gateway takes them: no client is
refused in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

_TIMEOUT_S: Final = 5.0
_PEER_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid (unix(7), SO_PEERCRED)
_log = logging.getLogger(__name__)


class Sockets(NamedTuple):
    """What the service listens on."""

    http: socket.socket
    probes: socket.socket

    def close(self) -> None:
        """Leave both to whoever else has them."""
        for each in self:
            each.close()


@asynccontextmanager
async def offered(state_dir: Path, sockets: Sockets) -> AsyncIterator[None]:
    """Give duplicates of the sockets to whoever asks and may: this user and root."""
    try:
        listener = _bind(state_dir)
    except OSError as exc:
        _log.warning("a restart will close the port for a moment: %s", exc.strerror or exc)
        yield
        return
    task = asyncio.create_task(_give(listener, sockets))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        listener.close()
        with contextlib.suppress(OSError):
            _path(state_dir).unlink()


def take(state_dir: Path) -> Sockets | None:
    """Return duplicates of the running service's sockets, or None when it offers none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            with _short(state_dir) as path:
                connection.connect(path)
            _, descriptors, _, _ = socket.recv_fds(connection, 1, len(Sockets._fields))
        except OSError:
            return None
    if len(descriptors) != len(Sockets._fields):
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    return Sockets(*(socket.socket(fileno=descriptor) for descriptor in descriptors))


def another(listener: socket.socket) -> socket.socket:
    """Return a second object of a socket; it closes by itself.

    Not `socket.dup`, which makes the socket blocking for every process that has it.
    """
    return socket.socket(fileno=os.dup(listener.fileno()))


async def _give(listener: socket.socket, sockets: Sockets) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError as exc:
            _log.warning("the sockets cannot be handed over now: %s", exc.strerror or exc)
            await asyncio.sleep(1)
            continue
        with connection, contextlib.suppress(OSError):
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size
            )
            if _PEER_CREDENTIALS.unpack(credentials)[1] in (0, os.geteuid()):
                socket.send_fds(connection, [b"\0"], [each.fileno() for each in sockets])


def _bind(state_dir: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _path(state_dir).unlink(missing_ok=True)
        with _short(state_dir) as path:
            listener.bind(path)
        _path(state_dir).chmod(0o600)
        listener.listen()
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _path(state_dir: Path) -> Path:
    return state_dir / "handover.sock"


@contextlib.contextmanager
def _short(state_dir: Path) -> Iterator[str]:
    """Name the socket by its folder's descriptor: an address of a socket has 107 bytes at most."""
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{_path(state_dir).name}"
    finally:
        os.close(folder)

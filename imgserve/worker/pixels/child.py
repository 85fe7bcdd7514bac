"""One pixel process as seen from the worker: exchange frames with it, end it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import TypeVar

from imgserve.errors import ProtocolError
from imgserve.picture_warnings import PictureWarning
from imgserve.worker.pixels.frames import HELLO, Reply, Request, unpack_warnings
from imgserve.worker.pixels.settings import PixelSettings
from imgserve.worker.pixels.words import Words

# The kernel caps it at net.core.wmem_max; a frame larger than the buffer takes several turns.
SOCKET_BUFFER_BYTES = 1024 * 1024
# A reply's header, its bytes and its warnings.
Replied = tuple[Reply, bytes, tuple[PictureWarning, ...]]
# A thumbnail with its header: most replies come in one read.
FIRST_READ_BYTES = 64 * 1024
# A killed process is gone within a millisecond, unless it holds gigabytes.
FIRST_LOOK_S = 0.001
LAST_LOOK_S = 0.05

Outcome = TypeVar("Outcome")


async def outlast(task: asyncio.Task[Outcome]) -> Outcome:
    """Wait for a task to its end, also when the caller is cancelled, once or more often.

    Raises: asyncio.CancelledError after its end when the caller was cancelled meanwhile.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
    return task.result()


class ChildProcess:
    """A pixel process, which is a child of this process, and the worker's end of its socket.

    It serves one request at a time; after any exception from `call` it must be closed, because
    the two ends no longer agree on where a frame begins.
    """

    def __init__(
        self, settings: PixelSettings, *, pid: int, link: socket.socket, words: Words
    ) -> None:
        self.pid = pid
        self.sandbox: dict[str, bool | str] = {}
        # What it was forked from knows no longer the fonts that are installed.
        self.outdated = False
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._words = words
        self._waited_for = False
        self._ending: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ChildProcess {self.pid} {'alive' if self.alive else 'ended'}>"

    async def ready(self) -> None:
        """Wait until the process has locked itself; close it on failure.

        Raises:
            ConnectionError: when it died instead, with the last it said.
            ProtocolError: when it said something else.
            TimeoutError: when it took longer than `start_timeout_s`.
        """
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                _, report, _ = await self._receive(HELLO)
            self.sandbox = json.loads(report)
        except BaseException as exc:
            await self.close()
            if isinstance(exc, ConnectionError) and self._words.last:
                raise ConnectionResetError(f"it ended: {self._words.last}") from exc
            raise

    @property
    def alive(self) -> bool:
        """Whether the process runs; costs one system call."""
        if self._waited_for:
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def watch(self, gone: Callable[[], object]) -> None:
        """Call `gone` when the process ends, or speaks, while nothing was asked."""
        self._loop.add_reader(self._link, gone)

    def unwatch(self) -> None:
        """End `watch`."""
        self._loop.remove_reader(self._link)

    async def call(self, asked: Request, data: bytes) -> Replied:
        """Send one request and wait for its reply.

        Raises:
            ConnectionError: when the process died.
            ProtocolError: when what it sent cannot be a reply to the request.
            TimeoutError: when it took longer than `pixel_timeout_s`.
        """
        async with asyncio.timeout(self._settings.pixel_timeout_s):
            await self._send(asked.pack(), data)
            del data
            return await self._receive(asked)

    async def _send(self, header: bytes, data: bytes) -> None:
        """Write one frame, in one piece where the socket has room: the peer wakes up once."""
        try:
            sent_bytes = self._link.sendmsg((header, data))
        except BlockingIOError:
            sent_bytes = 0
        if sent_bytes < len(header):
            await self._loop.sock_sendall(self._link, header[sent_bytes:])
            sent_bytes = len(header)
        if sent_bytes < len(header) + len(data):
            rest = memoryview(data)[sent_bytes - len(header) :]
            await self._loop.sock_sendall(self._link, rest)

    async def _receive(self, asked: Request) -> Replied:
        """Read one frame; most come in one piece, header and all."""
        came = await self._read_some(FIRST_READ_BYTES)
        while len(came) < Reply.FORMAT.size:
            came += await self._read_some(FIRST_READ_BYTES)
        reply = Reply.unpack(came[: Reply.FORMAT.size], asked=asked)
        pieces = [came[Reply.FORMAT.size :]]
        missing_bytes = reply.size_bytes + reply.warnings_bytes - len(pieces[0])
        while missing_bytes > 0:
            pieces.append(await self._read_some(min(missing_bytes, SOCKET_BUFFER_BYTES)))
            missing_bytes -= len(pieces[-1])
        if missing_bytes < 0:
            raise ProtocolError(f"a pixel process sent {-missing_bytes} B more than it said")
        data = b"".join(pieces)
        return reply, data[: reply.size_bytes], unpack_warnings(data[reply.size_bytes :])

    async def _read_some(self, limit_bytes: int) -> bytes:
        data = await self._loop.sock_recv(self._link, limit_bytes)
        if not data:
            raise ConnectionResetError("the pixel process closed its socket")
        return data

    async def close(self) -> None:
        """Kill the process and wait until it is gone."""
        # SIGKILL first: closing the socket would let the process end in its own time.
        if not self._waited_for:
            os.kill(self.pid, signal.SIGKILL)
        self._loop.remove_reader(self._link)
        self._link.close()
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._wait())
        await outlast(self._ending)

    async def _wait(self) -> None:
        """Wait without a thread, which the system may refuse just now."""
        look_s = FIRST_LOOK_S
        while self.alive:
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, LAST_LOOK_S)
        if not self._waited_for:
            self._waited_for = True
            os.waitid(os.P_PID, self.pid, os.WEXITED)  # noqa: ASYNC222  # it has ended
        self._words.close()

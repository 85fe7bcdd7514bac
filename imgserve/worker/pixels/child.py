"""One pixel process as seen from the worker: start it, exchange frames with it, end it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imgserve
from imgserve.errors import ProtocolError
from imgserve.worker.pixels.frames import HELLO, Reply, Request
from imgserve.worker.pixels.settings import PixelSettings

log = logging.getLogger(__name__)

# The kernel caps it at net.core.wmem_max; a frame larger than the buffer takes several turns.
SOCKET_BUFFER_BYTES = 1024 * 1024
# A thumbnail with its header: most replies come in one read.
FIRST_READ_BYTES = 64 * 1024
# Of the worker's environment a pixel process gets nothing else: it may hold secrets.
KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PATH")
# glibc would give the memory of each job back and fault it in again for the next: 7% of a 2 MP
# JPEG's CPU time. One arena, and up to 64 MB kept.
MALLOC_VARIABLES = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
}


class ChildProcess:
    """A pixel process and the worker's end of its socket.

    It serves one request at a time; after any exception from `call` it must be closed, because
    the two ends no longer agree on where a frame begins.
    """

    def __init__(self, settings: PixelSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            self._link = ours
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                _command(settings),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )
        self.sandbox: dict[str, bool | str] = {}

    def __repr__(self) -> str:
        state = "alive" if self.alive else f"ended {self._process.returncode}"
        return f"<ChildProcess {self.pid} {state}>"

    async def ready(self) -> None:
        """Wait until the process has loaded its codecs and locked itself; close it on failure.

        Raises:
            ConnectionError: when it died instead; it has said why on stderr.
            ProtocolError: when it said something else.
            TimeoutError: when it took longer than `start_timeout_s`.
        """
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                _, report = await self._receive(HELLO)
            self.sandbox = json.loads(report)
        except BaseException:
            await self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether the process runs; costs one system call."""
        return self._process.poll() is None

    def watch(self, gone: Callable[[], object]) -> None:
        """Call `gone` when the process ends, or speaks, while nothing was asked."""
        self._loop.add_reader(self._link, gone)

    def unwatch(self) -> None:
        """End `watch`."""
        self._loop.remove_reader(self._link)

    async def call(self, asked: Request, data: bytes) -> tuple[Reply, bytes]:
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

    async def _receive(self, asked: Request) -> tuple[Reply, bytes]:
        """Read one frame; most come in one piece, header and all."""
        came = await self._read_some(FIRST_READ_BYTES)
        while len(came) < Reply.FORMAT.size:
            came += await self._read_some(FIRST_READ_BYTES)
        reply = Reply.unpack(came[: Reply.FORMAT.size], asked=asked)
        pieces = [came[Reply.FORMAT.size :]]
        missing_bytes = reply.size_bytes - len(pieces[0])
        while missing_bytes > 0:
            pieces.append(await self._read_some(min(missing_bytes, SOCKET_BUFFER_BYTES)))
            missing_bytes -= len(pieces[-1])
        if missing_bytes < 0:
            raise ProtocolError(f"a pixel process sent {-missing_bytes} B more than it said")
        return reply, b"".join(pieces)

    async def _read_some(self, limit_bytes: int) -> bytes:
        data = await self._loop.sock_recv(self._link, limit_bytes)
        if not data:
            raise ConnectionResetError("the pixel process closed its socket")
        return data

    async def close(self) -> None:
        """Kill the process and wait until it is gone."""
        # SIGKILL first: closing the socket would let the process end in its own time.
        if self._process.returncode is None:
            self._process.kill()
        self._loop.remove_reader(self._link)
        self._link.close()
        # The kernel may need a while to take back gigabytes.
        await asyncio.shield(asyncio.to_thread(self._process.wait))


def _command(settings: PixelSettings) -> list[str]:
    program = "imgserve.worker.pixels.process"
    # -P: whatever lies in the current folder must not be imported.
    return [sys.executable, "-P", "-m", program, settings.to_json(), str(os.getpid())]


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    root = str(Path(imgserve.__file__).parent.parent)
    return kept | MALLOC_VARIABLES | {"PYTHONPATH": root, "LANG": "C.UTF-8"}

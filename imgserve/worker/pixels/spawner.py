"""The template as seen from the worker: start it, have it fork, replace it when it will not do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imgserve
from imgserve.errors import ProtocolError
from imgserve.worker.pixels.child import SOCKET_BUFFER_BYTES, ChildProcess, outlast
from imgserve.worker.pixels.fonts import FontsSeen, see_fonts
from imgserve.worker.pixels.settings import PixelSettings, Role
from imgserve.worker.pixels.words import Words

log = logging.getLogger(__name__)

READY = b"ready"
ANSWER_BYTES = 4
# A fork takes a millisecond; this long it takes only where the machine is out of everything.
FORK_TIMEOUT_S = 10.0
# Of the worker's environment a pixel process gets nothing else: it may hold secrets.
KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PATH")
# glibc would give the memory of each job back and fault it in again for the next: 7% of a 2 MP
# JPEG's CPU time. One arena, and up to 64 MB kept.
# numpy's library would start threads where it is loaded, and a process with threads cannot fork.
THREADS_VARIABLES = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
MALLOC_VARIABLES = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
}


class TemplateProcess:
    """One template; after any exception it must be closed."""

    def __init__(self, settings: PixelSettings, fonts: FontsSeen) -> None:
        self.fonts = fonts
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        words: Words | None = None
        try:
            with theirs:
                words = self._words = Words("the template of the pixel processes")
                self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                    _command(settings),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=words.writer,
                    env=_environment(),
                )
        except BaseException:
            self._control.close()
            if words is not None:
                words.close()
            raise
        words.close_writer()

    @property
    def pid(self) -> int:
        """The process id."""
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    async def ready(self) -> None:
        """Wait until it has loaded everything; close it on failure.

        Raises:
            ConnectionError: when it died instead, with the last it said.
            ProtocolError: when it said something else.
            TimeoutError: when it took longer than `start_timeout_s`.
        """
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                said = await self._loop.sock_recv(self._control, len(READY))
        except BaseException:
            await self.close()
            raise
        if said == READY:
            return
        await self.close()
        if said:
            raise ProtocolError(f"the template of the pixel processes said {said!r}")
        why = self._words.last or f"exit code {self._process.returncode}"
        raise ConnectionResetError(f"the template of the pixel processes ended: {why}")

    async def fork(self, role: Role) -> ChildProcess:
        """Have it fork a pixel process, which still has to get ready.

        Raises:
            OSError: when the system has no process, memory or descriptor left.
            ConnectionError: when the template has died.
            TimeoutError: when it does not answer; it must be closed then.
        """
        ours, theirs = socket.socketpair()
        words: Words | None = None
        try:
            with theirs:
                words = Words("a pixel process")
                ours.setblocking(False)
                for end in (ours, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
                passed = [theirs.fileno(), words.writer]
                socket.send_fds(self._control, [bytes([role])], passed)
                words.close_writer()
                async with asyncio.timeout(FORK_TIMEOUT_S):
                    answer = await self._loop.sock_recv(self._control, ANSWER_BYTES)
            pid = _pid_in(answer)
        except BaseException:
            ours.close()
            if words is not None:
                words.close()
            raise
        words.who = f"pixel process {pid}"
        return ChildProcess(self._settings, pid=pid, link=ours, words=words)

    async def close(self) -> None:
        """Kill it and wait until it is gone; what it forked lives on."""
        self._process.kill()
        self._control.close()
        while self.alive:  # noqa: ASYNC110  # only the kernel knows
            await asyncio.sleep(0.001)
        self._words.close()


class Spawner:
    """Keeps one template that lives and knows the fonts that are installed, and has it fork."""

    def __init__(self, settings: PixelSettings, renewed: Callable[[], None]) -> None:
        self._settings = settings
        self._renewed = renewed
        self._template: TemplateProcess | None = None
        self._turn = asyncio.Lock()

    @property
    def pids(self) -> list[int]:
        """The template's process id, when it lives."""
        return [self._template.pid] if self._template and self._template.alive else []

    async def spawn(self, role: Role) -> ChildProcess:
        """Fork a pixel process; where there is no template, start one first.

        Raises: as `TemplateProcess.ready` and `TemplateProcess.fork`.
        """
        async with self._turn:
            template = await self._living()
            forking = asyncio.ensure_future(template.fork(role))
            try:
                return await outlast(forking)
            except (ConnectionError, TimeoutError, ProtocolError):
                # An answer that still comes would be taken for the next one's.
                await self._end()
                raise
            except asyncio.CancelledError:
                if forking.exception() is None:
                    await forking.result().close()
                raise

    async def look(self) -> None:
        """See whether the template lives, and knows the fonts that are there now; mend that.

        Raises: as `TemplateProcess.ready`; the template that was there is then kept.
        """
        async with self._turn:
            template = await self._living()
            fonts = see_fonts(self._settings.font_dirs)
            if fonts == template.fonts:
                return
            log.warning("the installed fonts have changed: the pixel processes are replaced")
            newer = TemplateProcess(self._settings, fonts)
            await newer.ready()
            self._template = newer
            self._renewed()
            await template.close()

    async def close(self) -> None:
        """End the template."""
        async with self._turn:
            await self._end()

    async def _living(self) -> TemplateProcess:
        if self._template is not None and not self._template.alive:
            log.warning("the template of the pixel processes ended; another is started")
            await self._end()
        if self._template is None:
            # Seen before it starts: a change meanwhile is then noticed at the next look.
            template = TemplateProcess(self._settings, see_fonts(self._settings.font_dirs))
            await template.ready()
            self._template = template
        return self._template

    async def _end(self) -> None:
        if self._template is not None:
            template, self._template = self._template, None
            with contextlib.suppress(ProcessLookupError):
                await template.close()


def _pid_in(answer: bytes) -> int:
    if not answer:
        raise ConnectionResetError("the template of the pixel processes closed its socket")
    pid = int.from_bytes(answer, "big", signed=True)
    if pid < 0:
        raise OSError(-pid, f"no pixel process could be forked: {os.strerror(-pid)}")
    return pid


def _command(settings: PixelSettings) -> list[str]:
    program = "imgserve.worker.pixels.template"
    # -P: whatever lies in the current folder must not be imported.
    return [sys.executable, "-P", "-m", program, settings.to_json(), str(os.getpid())]


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    root = str(Path(imgserve.__file__).parent.parent)
    return kept | MALLOC_VARIABLES | THREADS_VARIABLES | {"PYTHONPATH": root, "LANG": "C.UTF-8"}

"""One part of the service as the supervisor sees it: a child process that is kept alive."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Container, Sequence
from typing import Final

from imgserve.commands import processes

FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 30.0
HEALTHY_AFTER_S: Final = 3.0
"""A part that lived this long had started well: its next restart is at once again. A start every so
often is bearable, and a broker that something kills now and then must not stay away longer."""

_log = logging.getLogger(__name__)


class Backoff:
    """How long to wait before the next restart: not at all, then 1 s doubling to 30 s."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def delay_s(self, lived_s: float) -> float:
        """Return the wait after a life of this length."""
        if lived_s >= HEALTHY_AFTER_S:
            self._next_s = 0.0
        delay_s = self._next_s
        self._next_s = min(max(FIRST_DELAY_S, delay_s * 2), LONGEST_DELAY_S)
        return delay_s


class Part:
    """A part's process, started again whenever it dies.

    Args:
        name: gateway, broker or worker.
        words: its command line after the name.
        pass_fds: descriptors that it inherits.
        changed: called after every birth and death; what it raises ends the keeper.
        final: exit codes that the next life would end with, too: they end the part.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        *,
        changed: Callable[[], None],
        pass_fds: Sequence[int] = (),
        final: Container[int] = (),
    ) -> None:
        self.name = name
        self.final_code: int | None = None
        self._final = final
        self.restarts = 0
        self.died: asyncio.Event = asyncio.Event()
        self._words = list(words)
        self._pass_fds = tuple(pass_fds)
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Part {self.name} pid={self.pid} restarts={self.restarts}>"

    @property
    def pid(self) -> int | None:
        """The pid of its live process."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Begin to keep it alive."""
        self._task = asyncio.create_task(self._keep_alive())

    async def finished(self) -> str:
        """Wait until nobody keeps it alive any more; return why.

        Nothing ends the keeper but `stop`, `kill`, a final exit code and a defect.
        """
        assert self._task is not None  # noqa: S101 (it was started)
        await asyncio.wait([self._task])
        exc = None if self._task.cancelled() else self._task.exception()
        if exc is not None:
            _log.error("the keeper of the %s ended by an error", self.name, exc_info=exc)
            return f"the keeper of the {self.name} ended by {type(exc).__name__}: {exc}"
        return f"the keeper of the {self.name} ended"

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, wait, and kill it when the time is over."""
        self._ending.set()
        if self._task is None:
            return
        if self._process is not None:
            processes.kill(self._process.pid, signal.SIGTERM)
        ended, _ = await asyncio.wait([self._task], timeout=grace_s)
        if not ended:
            _log.warning("%s did not end in %.0f s and is killed", self.name, grace_s)
            self.kill()
            await asyncio.wait([self._task])

    def kill(self) -> None:
        """End its process at once."""
        self._ending.set()
        if self._process is not None:
            processes.kill(self._process.pid, signal.SIGKILL)

    async def _keep_alive(self) -> None:
        backoff = Backoff()
        while not self._ending.is_set():
            born_s = time.monotonic()
            try:
                code = await self._live()
                end = f"ended ({_ending(code)})"
            except OSError as exc:
                # No process, memory or descriptor was left (fork: EAGAIN, ENOMEM, EMFILE): that
                # passes, and only who tries again sees it pass.
                code, end = None, f"cannot be started ({exc})"
            if self._ending.is_set():
                return
            if code in self._final:
                self.final_code = code
                return
            delay_s = backoff.delay_s(time.monotonic() - born_s)
            _log.error("%s %s; starts again in %.0f s", self.name, end, delay_s)
            self.died.set()
            try:
                await asyncio.wait_for(self._ending.wait(), delay_s)
            except TimeoutError:
                self.restarts += 1

    async def _live(self) -> int:
        """Run it once, from birth to death; return its exit status."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "imgserve", self.name, f"--parent={os.getpid()}", *self._words),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=self._pass_fds,
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops parts in order
        )
        try:
            if self._ending.is_set():  # stop() came before there was a process to tell
                self.kill()
            self._changed()
            return await self._process.wait()
        finally:
            if self._process.returncode is None:  # nobody would be left to end it
                processes.kill(self._process.pid, signal.SIGKILL)
            self._process = None
            self._changed()


async def first_finished(parts: Sequence[Part]) -> str:
    """Wait until one of the parts is not kept alive any more; return which, and why."""
    waits = [asyncio.create_task(part.finished()) for part in parts]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return done.pop().result()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # most real-time signals have no name
        return f"signal {-code}"

"""Processes of a run: started, killed, stopped, and started again at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from imgserve.commands.processes import alive, descendants

ROOT: Final = Path(__file__).parents[2]
TOO_SOON_S: Final = 0.2
"""A pause before the next start of a part that ended by itself, so that nothing spins."""


@dataclass(frozen=True, slots=True)
class End:
    """How one life of a process ended.

    Args:
        code: its exit code; negative: the signal.
    """

    name: str
    pid: int
    begin_s: float
    end_s: float
    code: int


@dataclass(slots=True, eq=False)
class Process:
    """A process that is kept alive until it is told to end.

    Args:
        words: gives the command line of the next life.
        log: where stdout and stderr go.
        pass_fds: descriptors that it inherits.
        again: whether it is started again when it ends.
    """

    name: str
    words: Callable[[], Sequence[str]]
    log: Path
    pass_fds: Sequence[int] = ()
    again: bool = True
    ends: list[End] = field(default_factory=list)
    seen_pids: set[int] = field(default_factory=set)
    _process: asyncio.subprocess.Process | None = None
    _ending: bool = False
    _task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Process {self.name} pid={self.pid}>"

    @property
    def pid(self) -> int | None:
        """The pid of its live process."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Begin to keep it alive."""
        self._task = asyncio.create_task(self._keep())

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; tell whether there was somebody to get it."""
        if self._process is None or self._process.returncode is not None:
            return False
        # Not send_signal: it may reap a process that has just ended, and its exit code is lost.
        try:
            os.kill(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill_child(self, choose: Callable[[Sequence[int]], int]) -> int | None:
        """Kill one process below it; return its pid, None when there is none."""
        children = descendants(self.pid) if self.pid else []
        if not children:
            return None
        pid = choose(children)
        self.seen_pids.update(children)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def end(self, number: signal.Signals, grace_s: float) -> int | None:
        """Send a signal and wait; kill it when the time is over.

        Returns: its exit code, None when it had to be killed.
        """
        self._ending = True
        if self._task is None:
            return None
        if self.pid:
            self.seen_pids.update(descendants(self.pid))
        self.send(number)
        ended, _ = await asyncio.wait([self._task], timeout=grace_s)
        if ended:
            return self.ends[-1].code if self.ends else None
        self.send(signal.SIGKILL)
        await asyncio.wait([self._task])
        return None

    def orphans(self) -> list[int]:
        """Return the pids below it that still live although it does not."""
        return [pid for pid in self.seen_pids if alive(pid)]

    async def _keep(self) -> None:
        while not self._ending:
            begin_s = time.monotonic()
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", *self.words()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=ROOT,
                    pass_fds=self.pass_fds,
                    start_new_session=True,  # Ctrl-C is for the script, which ends all in order
                )
            if self._ending:  # told so while the process was being made
                self.send(signal.SIGKILL)
            pid = self._process.pid
            code = await self._process.wait()
            self._process = None
            self.ends.append(End(self.name, pid, begin_s, time.monotonic(), code))
            if not self.again:
                return
            if code >= 0 and not self._ending:
                await asyncio.sleep(TOO_SOON_S)

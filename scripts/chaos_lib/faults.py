"""Does what the plan says to the service, and keeps account of it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.chaos_lib.plan import Fault, Kind
from scripts.chaos_lib.service import Service


@dataclass(frozen=True, slots=True)
class Deed:
    """A fault that was done.

    Args:
        pid: whom it hit; 0 for a wire.
        detail: which connections of a wire, and which of their directions.
    """

    kind: Kind
    target: str
    begin_s: float
    end_s: float
    pid: int = 0
    detail: str = ""

    @property
    def row(self) -> str:
        """Its row in the timeline."""
        if self.kind is not Kind.KILL:
            return str(self.kind)
        return "kill " + ("pixels" if "pixels" in self.target else self.target.partition("-")[0])


class Faults:
    """Carries a plan out.

    Args:
        plan: in order of time.
    """

    def __init__(self, service: Service, plan: Sequence[Fault], *, seed: int) -> None:
        self.deeds: list[Deed] = []
        self._service = service
        self._plan = plan
        self._chance = random.Random(f"faults {seed}")  # noqa: S311 (a plan)
        self._lasting: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Do everything in its time; return when the last one is over."""
        begin_s = time.monotonic()
        for fault in self._plan:
            await asyncio.sleep(begin_s + fault.at_s - time.monotonic())
            task = asyncio.create_task(self._do(fault))
            self._lasting.add(task)
            task.add_done_callback(self._lasting.discard)
        if self._lasting:
            await asyncio.wait(list(self._lasting))

    async def _do(self, fault: Fault) -> None:
        if fault.kind is Kind.KILL:
            self._kill(fault)
        elif fault.kind in (Kind.STOP, Kind.TERM):
            await self._signal(fault)
        else:
            await self._disturb(fault)

    def _kill(self, fault: Fault) -> None:
        part = self._service.parts[fault.target.rpartition(" ")[2]]
        now_s = time.monotonic()
        if fault.target.startswith("pixels"):
            pid = part.kill_child(self._chance.choice)
        else:
            pid = part.pid if part.send(signal.SIGKILL) else None
        if pid is not None:
            self.deeds.append(Deed(fault.kind, fault.target, now_s, now_s, pid))

    async def _signal(self, fault: Fault) -> None:
        part = self._service.parts[fault.target]
        begin_s, pid = time.monotonic(), part.pid
        if pid is None:
            return
        if fault.kind is Kind.TERM:
            part.send(signal.SIGTERM)
            while part.pid == pid:  # noqa: ASYNC110 (it ends by its drain's time at the latest)
                await asyncio.sleep(0.05)
        else:
            part.send(signal.SIGSTOP)
            await asyncio.sleep(fault.seconds)
            if part.pid == pid:
                part.send(signal.SIGCONT)
        self.deeds.append(Deed(fault.kind, fault.target, begin_s, time.monotonic(), pid))

    async def _disturb(self, fault: Fault) -> None:
        wire = self._service.wires[fault.target]
        begin_s, seconds = time.monotonic(), fault.seconds
        if fault.kind is Kind.DELAY:
            wire.delay(fault.seconds)
            seconds = 10 * fault.seconds
        elif fault.kind is Kind.HOLD:
            wire.hold()
        elif fault.kind is Kind.REFUSE:
            wire.refuse()
        elif fault.kind is Kind.RESET:
            wire.reset()
            seconds = 0
        else:
            wire.deafen(fault.channels, fault.directions)
        await asyncio.sleep(seconds)
        if fault.kind in (Kind.DELAY, Kind.HOLD, Kind.REFUSE):
            wire.heal()
        detail = f"{' '.join(fault.channels)}; {' '.join(fault.directions)}"
        self.deeds.append(Deed(fault.kind, fault.target, begin_s, time.monotonic(), detail=detail))

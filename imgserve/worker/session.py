"""One incarnation of a worker: its lane, its lease, and the jobs it holds."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from imgserve.protocol.events import BrokerBeat, EventsMessage, TurnedAway, Welcome
from imgserve.protocol.lane import Ack, CancelJob, Drain, Job, LaneMessage
from imgserve.protocol.reports import (
    Accepted,
    Beat,
    Bye,
    Hello,
    JobReports,
    ReportsMessage,
    Returned,
)
from imgserve.worker.fence import Fence
from imgserve.worker.job import Attempt
from imgserve.worker.lease import Lease
from imgserve.worker.reporter import Outbox
from imgserve.worker.tools import Line, Tools
from imgserve.worker.vitals import vitals

log = logging.getLogger(__name__)

FIRST_HELLO_WAIT_S: Final = 0.25
LAST_HELLO_WAIT_S: Final = 2.0
JOIN_LIMIT_S: Final = 10.0
"""A hello without an answer for so long: the connections may be dead and neither end know (a NAT
that forgot them), so the next incarnation opens others."""
ACKS_WAIT_S: Final = 5.0
"""How long a drained worker waits for its last acknowledgements; what lacks one is done again."""
ABORT_WAIT_S: Final = 5.0
"""How long abandoned transfers may take to end; one in a thread ends within a second."""


class Ending(Enum):
    """Why an incarnation is over."""

    LOST = "lost"  # its jobs are others' now: say hello with a fresh one
    DRAINED = "drained"
    TURNED_AWAY = "turned away"  # for good
    REFUSED = "refused"  # its key; one that was permitted just now counts within a second


class Wire(Protocol):
    """What a session needs of its `Link`."""

    def open_lane(self, endpoint: str) -> None:
        """Connect the lane."""

    def send(self, message: ReportsMessage) -> bool:
        """Send if there is room; tell whether there was."""

    def linger(self) -> None:
        """Let closing wait a moment for what was sent last."""


@dataclass(slots=True)
class _Held:
    attempt: Attempt
    task: asyncio.Task[None] | None = None
    reported: bool = False


class Session:
    """Takes messages, lives attempts, sends beats and reports; `run` is its life.

    Args:
        hello: who the worker is; also the incarnation's name and slots.
        tools: for the attempts.
        drain_timeout_s: how long running jobs may go on when asked to end.
        fence: holds uploads back once the lease is over.

    `settled` says, after `run`, that nothing of it runs any more.
    """

    def __init__(self, hello: Hello, tools: Tools, *, drain_timeout_s: float, fence: Fence) -> None:
        self._hello = hello
        self._tools = tools
        self._clock = tools.clock
        self._drain_timeout_s = drain_timeout_s
        self._fence = fence
        self._wire: Wire | None = None
        self._outbox = Outbox()
        self._held: dict[str, _Held] = {}
        self._given_back: set[str] = set()
        self._last_word = ""
        self.ended = 0
        self.settled = True
        self._lease: Lease | None = None
        self._epoch = ""
        self._beat_s = self._next_beat_s = 0.0
        self._over: Ending | None = None
        self._drain_ends_s: float | None = None
        self._acks_end_s: float | None = None
        self._wake = asyncio.Event()
        self._line = Line(
            incarnation=hello.incarnation,
            next_seq=self._outbox.next_seq,
            report=self._report,
            may_upload=self._may_upload,
        )

    def __repr__(self) -> str:
        return f"<Session {self._hello.incarnation} of {self._epoch}, {len(self._held)} jobs>"

    @property
    def incarnation(self) -> str:
        """The name of this life of the worker; also its topic."""
        return self._hello.incarnation

    @property
    def welcomed(self) -> bool:
        """Whether the broker has given it a lane."""
        return self._lease is not None

    @property
    def lease_end_s(self) -> float:
        """When its lease ends as things are; 0 before a first beat was acknowledged."""
        return self._lease.expires_at_s if self._lease and self._lease.confirmed else 0.0

    async def run(self, wire: Wire, *, moved: Callable[[], bool]) -> Ending:
        """Join, serve until it is over, and let nothing of it run on.

        Args:
            wire: the open link.
            moved: whether the broker is somewhere else now; asked while no answer comes.
        """
        self._wire = wire
        try:
            await self._join(wire, moved)
            ending = await self._serve(wire)
            if ending is Ending.DRAINED:
                # Its jobs go to others with the bye: no upload may run on past it.
                await self._abandon()
                wire.send(Bye(self._hello.incarnation, self._last_word or "drained"))
                wire.linger()
            return ending
        finally:
            self._over = self._over or Ending.LOST
            await self._abandon()

    def drain(self, reason: str) -> None:
        """Take no more jobs, give back those not begun, finish the rest, then end."""
        if self._drain_ends_s is not None:
            return
        log.info("draining, %d jobs held: %s", len(self._held), reason)
        self._last_word = reason
        self._drain_ends_s = self._clock() + self._drain_timeout_s
        if self._wire is not None and self._lease is not None:
            # Said before the first job is given back, so that nothing more is sent here.
            self._beat(self._wire, self._lease, self._clock())
        for held in self._held.values():
            held.attempt.drain(at_once=False)
            self._start(held)
        self._wake.set()

    def on_event(self, event: EventsMessage) -> None:
        """Take a message from the events socket."""
        if isinstance(event, BrokerBeat):
            if self._lease is not None and event.epoch != self._epoch:
                self._end(Ending.LOST, "the broker was restarted")
        elif isinstance(event, Welcome) and event.incarnation == self._hello.incarnation:
            self._on_welcome(event)
        elif isinstance(event, TurnedAway) and event.incarnation == self._hello.incarnation:
            self._end(Ending.TURNED_AWAY if event.final else Ending.LOST, event.reason)

    def on_refused(self) -> None:
        """Take it that the broker refuses the key."""
        self._end(Ending.REFUSED, "the broker refuses its key")

    def on_lane(self, message: LaneMessage) -> None:
        """Take a message from the lane; one of another epoch changes nothing."""
        if message.epoch != self._epoch or self._over is not None:
            return
        if isinstance(message, Ack):
            self._on_ack(message)
        elif isinstance(message, Job):
            self._on_job(message)
        elif isinstance(message, CancelJob):
            held = self._held.get(message.job_id)
            if held is not None and held.attempt.job.attempt == message.attempt:
                held.attempt.cancel()
        elif isinstance(message, Drain):
            self.drain(message.reason or "the broker asked")

    def _on_welcome(self, welcome: Welcome) -> None:
        if self._lease is not None or self._wire is None or self._over is not None:
            return
        self._epoch, self._beat_s = welcome.epoch, welcome.beat_s
        self._lease = Lease(welcome.lease_s, now_s=self._clock())
        self._fence.guard(self._may_upload, self._lose)
        self._wire.open_lane(welcome.endpoint)
        log.info("welcomed by broker %s as %s", self._epoch, self._hello.incarnation)
        self._wake.set()

    def _on_ack(self, ack: Ack) -> None:
        if self._lease is None:
            return
        confirmed = self._lease.confirmed
        self._lease.acknowledged(ack.seqs)
        for report in self._outbox.acknowledge(ack.seqs):
            if not isinstance(report, Accepted):
                self._let_go(report.job_id, report.attempt)
        if not confirmed and self._lease.confirmed:
            for held in self._held.values():
                self._start(held)
        if self._drain_ends_s is not None:
            self._wake.set()

    def _on_job(self, job: Job) -> None:
        held = self._held.get(job.job_id)
        if held is not None:
            if held.attempt.job.attempt >= job.attempt:
                return
            held.attempt.abandon()
            self._let_go(job.job_id, held.attempt.job.attempt)
        if self._full():
            # Not listed in the beats, it will be sent again; giving it back would bring it at once.
            log.error("job %s came although no slot is free", job.job_id)
            return
        attempt = Attempt(job, self._tools, self._line)
        if self._drain_ends_s is not None:
            if job.job_id in self._given_back:
                # Given back again it would only come again, and each time is an attempt; left
                # alone it takes a slot until `bye` hands it to others.
                return
            self._given_back.add(job.job_id)
            attempt.drain(at_once=False)
        held = self._held[job.job_id] = _Held(attempt)
        self._start(held)

    def _full(self) -> bool:
        """A slot is free as soon as the final report is said: the broker gives credit back then."""
        slots = self._hello.slots
        return len(self._held) >= slots and (
            sum(not held.reported for held in self._held.values()) >= slots
        )

    def _start(self, held: _Held) -> None:
        # The welcome may have been long on its way: only an acknowledged beat says that the
        # broker still counts on this incarnation, so nothing is begun before.
        if held.task is None and self._lease is not None and self._lease.confirmed:
            held.task = asyncio.get_running_loop().create_task(held.attempt.run())

    def _let_go(self, job_id: str, attempt: int) -> None:
        held = self._held.get(job_id)
        if held is not None and held.attempt.job.attempt == attempt:
            del self._held[job_id]
            self._outbox.forget(job_id)

    def _report(self, report: JobReports) -> None:
        held = self._held.get(report.job_id)
        if held is None or held.attempt.job.attempt != report.attempt or self._over is not None:
            return
        held.reported = not isinstance(report, Accepted)
        self.ended += not isinstance(report, Accepted | Returned)
        self._outbox.add(report, self._clock())
        if self._wire is not None:
            self._wire.send(report)
        if self._drain_ends_s is not None:
            self._wake.set()

    def _lose(self) -> None:
        """End every attempt at once; called by the fence before the loop does anything else."""
        self._end(Ending.LOST, "nothing was heard from the broker for too long")
        for held in self._held.values():
            held.attempt.abandon()

    def _may_upload(self) -> bool:
        return self._over is None and self._lease is not None and self._lease.valid(self._clock())

    def _end(self, ending: Ending, reason: str) -> None:
        if self._over is None:
            log.warning("incarnation %s is over: %s", self._hello.incarnation, reason)
            # Who was asked to end anyway does not come back.
            draining = self._drain_ends_s is not None and ending is Ending.LOST
            self._over = Ending.DRAINED if draining else ending
            self._wake.set()

    async def _join(self, wire: Wire, moved: Callable[[], bool]) -> None:
        wait_s, give_up_s = FIRST_HELLO_WAIT_S, self._clock() + JOIN_LIMIT_S
        while self._over is None and self._lease is None:
            if self._drain_ends_s is not None:
                self._over = Ending.DRAINED
                return
            if self._clock() >= give_up_s:
                self._end(Ending.LOST, "the broker does not answer")
                return
            wire.send(self._hello)
            await self._sleep(wait_s * random.uniform(0.75, 1.25))  # noqa: S311 - jitter
            wait_s = min(2 * wait_s, LAST_HELLO_WAIT_S)
            if self._lease is None and moved():
                self._end(Ending.LOST, "the broker is somewhere else now")

    async def _serve(self, wire: Wire) -> Ending:
        while self._over is None and self._lease is not None:
            now_s = self._clock()
            if not self._lease.valid(now_s):
                self._end(Ending.LOST, "nothing was heard from the broker for too long")
                break
            if now_s >= self._next_beat_s:
                self._beat(wire, self._lease, now_s)
            for report in self._outbox.due(now_s):
                wire.send(report)
            if self._drain_ends_s is not None and self._drained(now_s):
                self._over = Ending.DRAINED
                break
            await self._sleep(self._next_deadline_s(self._lease) - now_s)
        return self._over or Ending.LOST

    def _beat(self, wire: Wire, lease: Lease, now_s: float) -> None:
        self._next_beat_s = now_s + self._beat_s
        pids = tuple(self._tools.pixels.pids)
        seq = self._outbox.next_seq()
        beat = Beat(
            self._hello.incarnation,
            self._epoch,
            seq,
            tuple((job_id, held.attempt.job.attempt) for job_id, held in self._held.items()),
            pids,
            vitals(self._tools.pixels.all_pids)
            | {"wall_s": time.time(), "leaving": float(bool(self._last_word))},
        )
        if wire.send(beat):
            lease.sent(seq, now_s)

    def _drained(self, now_s: float) -> bool:
        if any(not held.reported for held in self._held.values()):
            if self._drain_ends_s is not None and now_s >= self._drain_ends_s:
                self._drain_ends_s = float("inf")
                log.warning("the time to drain is over; what still runs is given back")
                for held in self._held.values():
                    held.attempt.drain(at_once=True)
            return False
        if self._acks_end_s is None:
            self._acks_end_s = now_s + ACKS_WAIT_S
        return not self._outbox or now_s >= self._acks_end_s

    def _next_deadline_s(self, lease: Lease) -> float:
        return min(
            self._next_beat_s,
            lease.expires_at_s,
            self._outbox.next_due_s,
            self._drain_ends_s or float("inf"),
            self._acks_end_s or float("inf"),
        )

    async def _sleep(self, seconds: float) -> None:
        """Wait, but no longer than until something happened that a step must follow."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _abandon(self) -> None:
        """End every attempt that still runs, transfers and all, before anything else begins."""
        for held in self._held.values():
            held.attempt.abandon()
        tasks = [held.task for held in self._held.values() if held.task is not None]
        self._held.clear()
        late: set[asyncio.Task[None]] = set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=ABORT_WAIT_S)
        if late:
            self.settled = False
            log.error("%d abandoned jobs did not end in %g s", len(late), ABORT_WAIT_S)

"""One submitter's life on an event loop: the ledger decides, the link carries, timers run."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from imgserve.client.ledger import Entry, Ledger, Timing
from imgserve.client.link import SEND_MARK, Link
from imgserve.errors import ServiceUnavailable
from imgserve.protocol.events import (
    BrokerBeat,
    DeadLetters,
    EventsMessage,
    JobState,
    Refusal,
    Refused,
    Stats,
)
from imgserve.protocol.jobs import AskStats, Dead, JobsMessage, Replay
from imgserve.protocol.keys import KeySource

Answer = TypeVar("Answer")

TICK_S: Final = 0.25
"""How often the timers are looked at: a fraction of the shortest of them."""

PACE_S: Final = 0.02
"""Between two batches of a recovery: at most 50,000 jobs a second."""

PROBES_S: Final = (0.01, 0.03, 0.1, 0.3)
"""When to ask the broker for a sign of life after connecting, rather than wait for its beat."""

UNANSWERED_S: Final = 3.0
"""Everything said is answered within a commit to disk. Nothing for so long, while beats come, means
that the connection for submits is dead and neither end knows (a NAT that forgot it): connect anew.
The wait doubles as long as that does not help, for a disk may be that slow."""

UNANSWERED_MAX_S: Final = 60.0

ASK_AGAIN_S: Final = (0.2, 0.5, 1.0)
"""Waits before a question without an answer is asked again; the last one repeats."""


def connection_path(where: str | os.PathLike[str] | Any) -> Path:
    """Return the connection file's path, of a path or of settings."""
    file = getattr(where, "connection_file", None)
    return Path(file if file is not None else where)


def key_source(
    where: str | os.PathLike[str] | Any, key: str | os.PathLike[str] | None
) -> KeySource:
    """Return where the submitter's key is, of a path or of settings."""
    file = key if key is not None else getattr(where, "key", None)
    folders = [connection_path(where).parent, getattr(where, "state_dir", None)]
    return KeySource(None if file is None else Path(file), tuple(filter(None, folders)))


class Session:
    """Outstanding jobs over a link. Everything here runs on the loop it was made on.

    Args:
        path: the broker's connection file.
        timing: when things are said again.
        on_congestion: called when submitting gets blocked (True) or free again (False).
        keys: where the submitter's key is; by default beside the connection file.
    """

    def __init__(
        self,
        *,
        path: Path,
        timing: Timing | None = None,
        on_congestion: Callable[[bool], None] = lambda _: None,
        keys: KeySource | None = None,
    ) -> None:
        self.submitter = f"s-{os.urandom(12).hex()}"
        self.ledger = Ledger(self.submitter, timing)
        self.congested = False
        self._on_congestion = on_congestion
        self._loop = asyncio.get_running_loop()
        self._link = Link(
            path=path,
            submitter=self.submitter,
            on_event=self._hear,
            on_drained=self._settle,
            keys=keys or KeySource(folders=(path.parent,)),
        )
        self._questions: dict[str, list[asyncio.Future[JobState | Refused]]] = {}
        self._stats: list[asyncio.Future[Mapping[str, Any]]] = []
        self._letters: deque[asyncio.Future[DeadLetters]] = deque()
        self._silent_since_s = self._loop.time()
        self._pacing: asyncio.TimerHandle | None = None
        self._probing: list[asyncio.TimerHandle] = []
        self._said_s: float | None = None
        self._unanswered_s = UNANSWERED_S
        if self._link.refresh():
            self._probe()
        self._tick_timer = self._loop.call_later(TICK_S, self._tick)

    def submit(self, entry: Entry) -> None:
        """Take a job on and send it; the same id again joins the job that is already there."""
        present = self.ledger.jobs.get(entry.job_id)
        if present is not None:
            if not self._joins(entry, present):
                return
        elif self.ledger.is_conflict(entry):
            self._refuse(entry)
            return
        message = self.ledger.add(entry, self._loop.time())
        if message is not None:
            self._say(message)
        self._settle()

    async def ask(self, message: JobsMessage, job_id: str, timeout_s: float) -> JobState | Refused:
        """Send a replay or cancel and return what the broker says of the job.

        Raises: ServiceUnavailable 502 when nothing comes in time.
        """
        future: asyncio.Future[JobState | Refused] = self._loop.create_future()
        self._questions.setdefault(job_id, []).append(future)
        try:
            return await self._insist(message, future, timeout_s)
        finally:
            waiting = self._questions[job_id]
            waiting.remove(future)
            if not waiting:
                del self._questions[job_id]

    async def stats(self, timeout_s: float) -> Mapping[str, Any]:
        """Return the broker's figures, fresh."""
        future: asyncio.Future[Mapping[str, Any]] = self._loop.create_future()
        self._stats.append(future)
        try:
            return await self._insist(AskStats(self.submitter), future, timeout_s)
        finally:
            self._stats.remove(future)

    async def dead(self, action: str, job_id: str, timeout_s: float) -> DeadLetters:
        """Work with dead letters; asked once only, since a retry is not idempotent."""
        message = Dead(self.submitter, action, job_id)
        future: asyncio.Future[DeadLetters] = self._loop.create_future()
        deadline_s = self._loop.time() + timeout_s
        while not self.ledger.alive and self._loop.time() < deadline_s:  # noqa: ASYNC110 (rare)
            await asyncio.sleep(PACE_S)
        self._letters.append(future)
        self._say(message)
        try:
            async with asyncio.timeout_at(deadline_s):
                return await future
        except TimeoutError as exc:
            raise ServiceUnavailable("the broker did not answer in time", code=502) from exc
        finally:
            if future in self._letters:
                self._letters.remove(future)

    async def close(self, flush_s: float) -> None:
        """End: let submits be acknowledged for flush_s, then stop timers, then close sockets."""
        deadline_s = self._loop.time() + flush_s
        while self.ledger.unacknowledged and self._loop.time() < deadline_s:  # noqa: ASYNC110 (once)
            await asyncio.sleep(PACE_S)
        self._tick_timer.cancel()
        for timer in (*self._probing, *filter(None, (self._pacing,))):
            timer.cancel()
        await self._link.close()

    async def _insist(
        self, message: JobsMessage, future: asyncio.Future[Answer], timeout_s: float
    ) -> Answer:
        deadline_s = self._loop.time() + timeout_s
        waits = iter(ASK_AGAIN_S)
        while (left_s := deadline_s - self._loop.time()) > 0:
            self._say(message)
            wait_s = min(next(waits, ASK_AGAIN_S[-1]), left_s)
            await asyncio.wait((future,), timeout=wait_s)
            if future.done():
                return future.result()
        raise ServiceUnavailable("the broker did not answer in time", code=502)

    def _say(self, message: JobsMessage) -> None:
        self._link.send(message)
        if self._said_s is None:
            self._said_s = self._loop.time()

    def _hear(self, message: EventsMessage) -> None:
        was_alive = self.ledger.alive
        answered = self._take(message)
        if answered:
            self._unanswered_s = UNANSWERED_S
        if answered or not was_alive:
            self._said_s = None

    def _take(self, message: EventsMessage) -> bool:
        """Take a message to heart; returns whether it may answer something that was said."""
        now_s = self._loop.time()
        match message:
            case JobState():
                return self._take_state(message, now_s)
            case BrokerBeat():
                self.ledger.hear_beat(message, now_s)
                return False
            case Refused():
                entry = self.ledger.hear_refused(message, now_s)
                self._answer(message)
                if entry is not None:
                    entry.tell()
            case Stats():
                self.ledger.hear_life(message.epoch, now_s)
                for future in self._stats:
                    if not future.done():
                        future.set_result(message.figures)
            case DeadLetters():
                self.ledger.hear_life(message.epoch, now_s)
                if self._letters:
                    self._letters.popleft().set_result(message)
        return True

    def _take_state(self, message: JobState, now_s: float) -> bool:
        present = self.ledger.jobs.get(message.job_id)
        acknowledged = present is not None and present.latest is not None
        entry = self.ledger.hear_state(message, now_s)
        self._answer(message)
        if entry is not None:
            entry.tell()
        # How a job goes on that was acknowledged before is no answer to what was said.
        return entry is None or not acknowledged

    def _joins(self, entry: Entry, present: Entry) -> bool:
        """Settle two entries of one id; returns whether the new one is to be sent."""
        if present.payload is None:
            self.ledger.jobs.pop(present.job_id)
            present.follow(entry)
            return True
        if entry.payload in (None, present.payload):
            entry.follow(present)
            present.tell()
        else:
            self._refuse(entry)
        return False

    def _refuse(self, entry: Entry) -> None:
        detail = f"the id {entry.job_id} is in use for another request"
        entry.refusal = Refused("here", 0, entry.job_id, Refusal.CONFLICT, detail)
        entry.over = True
        entry.tell()

    def _answer(self, message: JobState | Refused) -> None:
        for future in self._questions.get(message.job_id, ()):
            if not future.done():
                future.set_result(message)

    def _settle(self) -> None:
        """After each batch of news: go on with a recovery, and say whether there is room."""
        ledger = self.ledger
        if ledger.pending and self._pacing is None:
            self._recover()
        congested = self._link.blocked or ledger.full or ledger.held >= SEND_MARK
        if congested is not self.congested:
            self.congested = congested
            self._on_congestion(congested)

    def _recover(self) -> None:
        """Say one batch of what is due; the next follows after a pause."""
        self._pacing = None
        if not self._link.blocked:
            for message in self.ledger.due(self._loop.time()):
                self._say(message)
        if self.ledger.pending:
            self._pacing = self._loop.call_later(PACE_S, self._recover)
        else:
            self._settle()

    def _tick(self) -> None:
        self._tick_timer = self._loop.call_later(TICK_S, self._tick)
        now_s, ledger = self._loop.time(), self.ledger
        if ledger.silent(now_s):
            self._silent_since_s = now_s
            self._reconnect(force=True)
        elif not ledger.alive:
            again = now_s - self._silent_since_s > ledger.timing.silent_beats * ledger.timing.beat_s
            if again:
                self._silent_since_s = now_s
            self._reconnect(force=again)
        elif self._unanswered(now_s):
            self._unanswered_s = min(2 * self._unanswered_s, UNANSWERED_MAX_S)
            self._reconnect(force=True)
        elif self._link.connection and self._link.connection.epoch != ledger.epoch:
            self._reconnect(force=False)
        if self._pacing is None:
            self._recover()

    def _unanswered(self, now_s: float) -> bool:
        """Whether the broker lives and has room, yet says nothing to what it was told."""
        if self.ledger.full:
            self._said_s = None  # it does not read now; what it was told is answered later
        return self._said_s is not None and now_s - self._said_s > self._unanswered_s

    def _reconnect(self, *, force: bool) -> None:
        self._said_s = None
        if self._link.refresh(force=force):
            self.ledger.alive = False
            self._probe()

    def _probe(self) -> None:
        """Its answer on the own topic proves the subscription sooner than the next beat."""
        for timer in self._probing:
            timer.cancel()
        self._probing = [self._loop.call_later(delay_s, self._knock) for delay_s in PROBES_S]

    def _knock(self) -> None:
        if not self.ledger.alive:
            self._say(Replay(self.submitter, ("probe",)))

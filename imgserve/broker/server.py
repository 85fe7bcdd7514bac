"""The broker's process: sockets and journal around the core; it decides nothing itself."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import zmq

from imgserve import __version__
from imgserve.broker import actions as act
from imgserve.broker import dead, roll
from imgserve.broker.bell import Bell, Door
from imgserve.broker.binding import bind_all
from imgserve.broker.core import Core
from imgserve.broker.figures import figures_of
from imgserve.broker.guard import KeyFolder, key_folder
from imgserve.broker.inbox import Inbox
from imgserve.broker.journal import Journal, Question
from imgserve.broker.lanes import Lanes, NoLaneError
from imgserve.broker.policy import Policy
from imgserve.broker.room import RoomLimits
from imgserve.config import Settings
from imgserve.errors import ConfigError, StateUnwritable
from imgserve.protocol import events, jobs, reports
from imgserve.protocol.checks import is_identifier
from imgserve.protocol.codec import (
    JOBS,
    LANE,
    PROTOCOL_VERSION,
    REPORTS,
    VersionMismatch,
    encode_event,
)
from imgserve.protocol.connection import Connection
from imgserve.protocol.descriptors import DescriptorWatch, raise_limit

log = logging.getLogger(__name__)

TURN_LIMIT: Final = 200
"""Messages taken from one socket in a turn, so that a flood on one does not starve the other."""

HOLDING_BEAT_S: Final = 0.1
"""Time between beats while recovered jobs wait for workers to come back."""

STORING_LIMIT: Final = 20_000
"""Jobs handed to the journal and not yet on disk, before reading pauses."""

HELD_LIMIT: Final = 500
"""Submits that came while the queue was full, before reading pauses: 64 MB at most. Until then
questions and cancels behind them are still heard, for who respects `full` sends few."""

MESSAGES_A_JOB: Final = 3
"""Submit, accepted and the final report."""

TICK_S: Final = 0.1
"""How late a lease or a delay may be noticed."""

STOP_LINGER_MS: Final = 1_000


async def serve(settings: Settings, *, stop: asyncio.Event) -> int:
    """Run the broker until stop is set; return its exit code.

    Raises: ConfigError when it cannot start, with what to do about it.
    """
    keys = key_folder(settings)
    while True:
        try:
            with ExitStack() as stack:
                await Server(settings, stack, keys).run(stop)
        except KeyRevoked as exc:
            log.warning("%s: the broker begins a new life without it", exc)
            keys = key_folder(settings, demanded=True)
        else:
            return 0


class KeyRevoked(Exception):
    """Raised when a peer is connected by a key that is no longer permitted."""


class Server:
    """One life of the broker.

    Args:
        stack: closes what was opened, last first: sockets, then journal, then lock.
        keys: who may connect, None for everyone.
    """

    def __init__(self, settings: Settings, stack: ExitStack, keys: KeyFolder | None = None) -> None:
        raise_limit()
        self._descriptors = DescriptorWatch()
        self._settings = settings
        state_dir = settings.state_dir
        stack.enter_context(_lock(state_dir / "broker.lock"))
        self._loop = asyncio.get_running_loop()
        self._bell: Bell | None = None
        self._spoken: list[bytes] = []
        self._running = True
        self._fatal: Exception | None = None
        try:
            self._journal = Journal(
                state_dir / "journal.sqlite3",
                retention_s=settings.retention_s,
                retention_jobs=settings.retention_jobs,
                room=RoomLimits(
                    settings.journal_bytes, settings.retention_bytes, settings.disk_free_bytes
                ),
                lease_s=settings.lease_s,
                notify=lambda: self._loop.call_soon_threadsafe(self._ring),
            )
        except sqlite3.OperationalError as exc:
            raise StateUnwritable(
                f"the journal in {state_dir} cannot be opened: {exc}; make room there, give this "
                "user the right to write, or choose another folder with --state"
            ) from exc
        stack.callback(self._close_journal)
        self._core = self._new_core()
        self._holding_back = bool(self._journal.recovered.awaited)
        self._binding = stack.enter_context(bind_all(settings, keys))
        self._guard = self._binding.guard
        context = self._binding.context
        self._lanes = Lanes(
            context,
            host=settings.broker_host,
            advertise=self._binding.advertise,
            first_port=settings.broker_port and settings.broker_port + 3,
            last_port=settings.last_lane_port,
            server_key=self._binding.server_key,
        )
        stack.callback(self._lanes.close_all, STOP_LINGER_MS)
        self._jobs = Inbox(self._binding.jobs, JOBS, "jobs")
        self._reports = Inbox(self._binding.reports, REPORTS, "reports")
        self._started_s = time.monotonic()
        self._said_full = False
        self._held: deque[jobs.Submit] = deque()
        self._performers: dict[type, Callable[[Any], None]] = {
            act.Append: self._journal.put,
            act.Update: self._journal.put,
            act.Finish: self._journal.put,
            act.Load: self._journal.put,
            act.LookUp: self._journal.put,
            act.Say: self._say,
            act.Send: self._send,
            act.OpenLane: self._enrol,
            act.CloseLane: self._close_lane,
        }

    def _new_core(self) -> Core:
        recovered = self._journal.recovered
        now_s = time.monotonic()
        if recovered.waiting:
            log.info(
                "%d unfinished jobs recovered; they wait for %d workers to come back, at most %g s",
                recovered.waiting,
                len(recovered.awaited),
                max((until_s - now_s for until_s in recovered.awaited.values()), default=0),
            )
        return Core(
            policy=Policy.of(self._settings),
            epoch=f"{recovered.life}-{secrets.token_hex(4)}",
            wall_offset_s=time.time() - now_s,
            waiting_on_disk=recovered.waiting,
            awaited=recovered.awaited,
            doubtful=not recovered.clean,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stop is set, then let running jobs end and the journal settle."""
        connection_file = self._settings.connection_file
        self._write_connection(connection_file)
        core = self._core
        front = Door(self._binding.front, hurried=lambda: not core.well_supplied)
        # While nothing is under way workers say hello and beat: by the hundred, and no hurry.
        reports = Door(
            [self._binding.reports],
            hurried=lambda: core.under_way > 0 and not core.well_supplied,
        )
        self._bell = Bell(
            [front, reports],
            turn=self._turn,
            enough=lambda: MESSAGES_A_JOB * core.jobs_between_turns,
        )
        self._ring()  # for what the journal or an early peer has said already
        beats = asyncio.ensure_future(self._beat_forever())
        ticks = asyncio.ensure_future(self._tick_forever())
        log.info("broker %s serves %s", self._core.epoch, self._binding.jobs_endpoint)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((stopping, beats, ticks), return_when=asyncio.FIRST_COMPLETED)
            for task in (beats, ticks):
                if task.done():
                    task.result()  # raises: a broker that only seems to live helps nobody
            await self._drain()
        finally:
            stopping.cancel()
            beats.cancel()
            ticks.cancel()
            await asyncio.gather(stopping, beats, ticks, return_exceptions=True)
            self._bell.close()
            self._bell = None
            self._running = False
            if not isinstance(self._fatal, KeyRevoked):  # the next life wants the same ports
                connection_file.unlink(missing_ok=True)
            log.info("broker %s has stopped", self._core.epoch)

    def _write_connection(self, path: Path) -> None:
        connection = Connection(
            protocol=PROTOCOL_VERSION,
            version=__version__,
            epoch=self._core.epoch,
            jobs=self._binding.jobs_endpoint,
            reports=self._binding.reports_endpoint,
            events=self._binding.events_endpoint,
            server_key=self._binding.server_key.public if self._binding.server_key else "",
        )
        try:
            connection.write(path)
        except OSError as exc:
            raise StateUnwritable(
                f"the connection file {path} cannot be written: {exc.strerror}; make room there, "
                "or choose another place with --connection"
            ) from exc

    async def _drain(self) -> None:
        """Take no more jobs; give those that workers hold time to end; settle the journal."""
        self._core.draining = True
        self._beat()
        deadline_s = time.monotonic() + self._settings.drain_timeout_s
        while self._core.fleet.in_flight or self._core.storing:
            if time.monotonic() > deadline_s:
                break
            await asyncio.sleep(TICK_S / 2)

    def _close_journal(self) -> None:
        self._journal.close(clean=not self._core.fleet.in_flight and self._fatal is None)

    # --- turns

    def _ring(self, *, at_once: bool = False) -> None:
        if self._bell is not None:
            self._bell.ring(at_once=at_once)

    def _turn(self) -> int:
        """Take what has come in, decide, act."""
        if not self._running:
            return 0
        try:
            return self._take_turn()
        except Exception as exc:
            # What the journal said cannot be taken back or skipped: a new life reads it again.
            log.exception("the broker cannot go on")
            self._running, self._fatal = False, exc
            return 0

    def _take_turn(self) -> int:
        """Returns how many messages it took from the sockets."""
        now_s = time.monotonic()
        for event in self._journal.drain():
            self._handle_own(event, now_s)
        more = self._guard is not None and self._guard.answer()
        taken = self._read(self._reports, now_s)
        more |= taken == TURN_LIMIT
        while self._held and not self._holding:
            self._handle(self._held.popleft(), now_s)
        if not self._paused:
            submitted = self._read(self._jobs, now_s)
            more |= submitted == TURN_LIMIT
            taken += submitted
        for topic in self._binding.read_subscriptions():
            self._handle_own(act.Unsubscribed(topic), now_s)
        self._perform(self._core.flush())
        if self._full != self._said_full:
            self._beat()
        self._send_out()
        if more:
            self._ring(at_once=True)
        return taken

    @property
    def _full(self) -> bool:
        return self._core.full or bool(self._journal.failing or self._journal.crowded)

    @property
    def _paused(self) -> bool:
        """Whether reading jobs waits: TCP and the senders' high-water marks then hold them."""
        return len(self._core.storing) >= STORING_LIMIT or len(self._held) >= HELD_LIMIT

    @property
    def _holding(self) -> bool:
        """Whether a submit waits here: there is no room for it, and there will be."""
        return self._core.full and not self._core.draining

    def _read(self, inbox: Inbox[Any], now_s: float) -> int:
        """Handle up to a turn's worth of messages, and return how many; at the limit, more wait."""
        for taken in range(TURN_LIMIT):
            try:
                message = inbox.read()
            except VersionMismatch as exc:
                if exc.kind == reports.Hello.KIND and is_identifier(exc.sender):
                    away = events.TurnedAway(self._core.epoch, exc.sender, True, str(exc))
                    self._say(act.Say(exc.sender, away))
                continue
            if message is None:
                return taken
            if isinstance(message, jobs.AskStats):
                self._say(act.Say(message.submitter, self._stats()))
            elif isinstance(message, jobs.Dead):
                self._dead(message)
            elif isinstance(message, jobs.Submit) and self._holding:
                self._held.append(message)
            else:
                self._handle(message, now_s)
        return TURN_LIMIT

    def _handle(self, message: object, now_s: float) -> None:
        """Handle a peer's message; one that meets a bug is dropped, and the others go on."""
        try:
            self._handle_own(message, now_s)
        except Exception:
            log.exception("a %s could not be handled", type(message).__name__)

    def _handle_own(self, event: object, now_s: float) -> None:
        self._perform(self._core.handle(event, now_s))

    def _perform(self, actions: Iterable[act.Action]) -> None:
        performers = self._performers
        for action in actions:
            performers[type(action)](action)

    def _send(self, action: act.Send) -> None:
        self._lanes.send(action.incarnation, LANE.encode(action.message))

    def _say(self, said: act.Say) -> None:
        if self._binding.has_listener(said.topic):
            self._spoken.append(encode_event(said.topic, said.message))

    def _send_out(self) -> None:
        """Send what the turn has brought, all at once.

        Each frame by itself would wake the sockets' thread each time: measured, that was a
        quarter of the broker's time.
        """
        self._lanes.flush()
        for frame in self._spoken:
            self._binding.events.send(frame, zmq.NOBLOCK)
        self._spoken.clear()

    def _enrol(self, action: act.OpenLane) -> None:
        """Open the lane once the journal knows the worker: from then on it may get jobs."""
        hello, life = action.hello, self._journal.recovered.life
        ask = partial(roll.enrol, incarnation=hello.incarnation, life=life, former=hello.former)
        self._journal.put(Question(ask, lambda _: self._open_lane(hello)))

    def _open_lane(self, hello: reports.Hello) -> None:
        if hello.incarnation not in self._core.fleet.workers:
            return  # it has left in the meantime
        answer: act.LaneOpened | act.LaneRefused
        try:
            answer = act.LaneOpened(hello.incarnation, self._lanes.open(hello.incarnation))
            log.info("worker %d on %s joins with %d slots", hello.pid, hello.host, hello.slots)
        except NoLaneError as exc:
            answer = act.LaneRefused(hello.incarnation, str(exc))
            self._strike(hello.incarnation)
            log.warning("worker %d on %s gets no lane: %s", hello.pid, hello.host, exc)
        self._handle_own(answer, time.monotonic())

    def _close_lane(self, action: act.CloseLane) -> None:
        self._lanes.close(action.incarnation)
        self._strike(action.incarnation)

    def _strike(self, incarnation: str) -> None:
        ask = partial(roll.strike, incarnation=incarnation)
        self._journal.put(Question(ask, lambda _: None))

    def _end_hold(self, now_s: float) -> None:
        """Forget the workers of former lives as soon as none of them is waited for."""
        if self._holding_back and self._core.hold.over(now_s):
            self._holding_back = False
            ask = partial(roll.strike_former, life=self._journal.recovered.life)
            self._journal.put(Question(ask, lambda _: None))

    # --- time

    async def _beat_forever(self) -> None:
        while True:
            self._beat()
            if self._binding.has_listener(events.STATS_TOPIC):
                self._say(act.Say(events.STATS_TOPIC, self._stats()))
            self._send_out()
            beat_s = self._settings.beat_s
            # Workers of the former life learn of this one by its beat, and jobs wait for them.
            await asyncio.sleep(min(beat_s, HOLDING_BEAT_S) if self._holding_back else beat_s)

    def _beat(self) -> None:
        self._said_full = self._full
        beat = events.BrokerBeat(self._core.epoch, self._settings.beat_s, self._said_full)
        self._say(act.Say(events.BEAT_TOPIC, beat))

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._fatal is not None:
                raise self._fatal
            self._journal.check()
            self._descriptors.look(time.monotonic())
            if self._guard is not None and (revoked := self._guard.revoked()):
                self._running = False
                self._fatal = KeyRevoked(f"the key {revoked} is revoked and was in use")
                raise self._fatal
            now_s = time.monotonic()
            self._end_hold(now_s)
            self._handle_own(act.Tick(), now_s)
            self._turn()

    # --- people

    def _stats(self) -> events.Stats:
        now_s = time.monotonic()
        figures = figures_of(self._core, now_s)
        figures |= {"uptime_s": now_s - self._started_s, "full": self._full}
        figures["descriptors"] = self._descriptors.figures
        return events.Stats(self._core.epoch, figures)

    def _dead(self, message: jobs.Dead) -> None:
        asks: dict[jobs.DeadAction, Callable[..., Any]] = {
            jobs.DeadAction.LIST: dead.list_letters,
            jobs.DeadAction.SHOW: partial(dead.find_letter, job_id=message.job_id),
            jobs.DeadAction.RETRY: partial(dead.find_letter, job_id=message.job_id),
            jobs.DeadAction.DROP: partial(dead.drop_letter, job_id=message.job_id),
        }
        ask = asks[jobs.DeadAction(message.action)]
        self._journal.put(Question(ask, partial(self._answer_dead, message)))

    def _answer_dead(self, message: jobs.Dead, answer: Any) -> None:
        letters: tuple[dead.Letter, ...] = ()
        detail = ""
        if message.action == jobs.DeadAction.LIST:
            letters = answer
        elif not answer:
            detail = f"there is no dead letter {message.job_id}"
        elif message.action == jobs.DeadAction.SHOW:
            letters = (answer,)
        elif message.action == jobs.DeadAction.DROP:
            detail = f"dropped {message.job_id}"
        else:
            job_id = secrets.token_hex(16)
            again = jobs.Submit(
                job_id, message.submitter, answer["priority"], answer["payload"], answer["tag"]
            )
            self._handle(again, time.monotonic())
            letters = ({"id": message.job_id, "retried_as": job_id},)
            detail = f"{message.job_id} is tried again as {job_id}"
        dead = events.DeadLetters(self._core.epoch, letters, detail)
        self._say(act.Say(message.submitter, dead))


def _lock(path: Path) -> Any:
    """Keep a second broker off the same journal.

    Raises: ConfigError when there is one already, or the folder cannot be written.
    """
    try:
        file = path.open("a")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise ConfigError(f"another broker already serves {path.parent}") from exc
    except OSError as exc:
        raise ConfigError(f"the state folder {path.parent} cannot be used: {exc}") from exc
    os.set_inheritable(file.fileno(), False)
    return file

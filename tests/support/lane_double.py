"""A scripted broker for one worker: real sockets, and a test that says what they carry."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq

from imgserve.protocol.codec import LANE, PROTOCOL_VERSION, REPORTS, encode_event
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import BEAT_TOPIC, BrokerBeat, EventsMessage, TurnedAway, Welcome
from imgserve.protocol.lane import Ack, CancelJob, Drain, Job, LaneMessage
from imgserve.protocol.reports import Beat, Bye, Hello, ReportsMessage

Kind = TypeVar("Kind")
DEADLINE_S = 15.0
_TURN_MS = 5


class LaneDouble:
    """Binds a broker's sockets in a thread, welcomes workers and acknowledges as it is told.

    Args:
        folder: where the connection file goes.
        lease_s, beat_s: what it welcomes with.
        welcomes: whether a hello is answered at all.

    Attributes:
        heard: every message from workers, in order.
        acks_beats, acks_reports: whether they are acknowledged; a test may change them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lease_s: float = 5.0,
        beat_s: float = 0.1,
        welcomes: bool = True,
    ) -> None:
        self.connection_file = folder / "connection.json"
        self.epoch = uuid.uuid4().hex
        self.incarnation = ""
        self.heard: list[ReportsMessage] = []
        self.acks_beats = self.acks_reports = True
        self.welcomes = welcomes
        self._lease_s = lease_s
        self._beat_s = beat_s
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._news = threading.Condition()
        self._ending = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def expect(
        self,
        kind: type[Kind],
        accept: Callable[[Kind], bool] = lambda _: True,
        *,
        timeout_s: float = DEADLINE_S,
    ) -> Kind:
        """Return the first message of a kind that was or will be heard and is accepted."""
        return self.expect_count(kind, 1, accept, timeout_s=timeout_s)[0]

    def expect_count(
        self,
        kind: type[Kind],
        count: int,
        accept: Callable[[Kind], bool] = lambda _: True,
        *,
        timeout_s: float = DEADLINE_S,
    ) -> list[Kind]:
        """Wait for so many messages of a kind; return all there are by then."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                found = [item for item in self.heard if isinstance(item, kind) and accept(item)]
                if len(found) >= count:
                    return found
                left_s = deadline_s - time.monotonic()
                assert left_s > 0, f"{len(found)} {kind.__name__}, not {count}: {self._others()}"
                self._news.wait(left_s)

    def said(self, kind: type[Kind], job_id: str | None = None) -> list[Kind]:
        """Return what was heard so far."""
        with self._news:
            found: list[Any] = [item for item in self.heard if isinstance(item, kind)]
        return [item for item in found if job_id is None or item.job_id == job_id]

    def give(self, job_id: str, payload: bytes, **fields: Any) -> Job:
        """Send a job."""
        defaults: dict[str, Any] = {
            "epoch": self.epoch,
            "attempt": 1,
            "accepted": False,
            "touched": False,
            "verdict": 0,
            "detail": "",
        }
        job = Job(job_id=job_id, payload=payload, **(defaults | fields))
        self.send(job)
        return job

    def cancel(self, job_id: str, attempt: int = 1) -> None:
        """Send a cancellation."""
        self.send(CancelJob(self.epoch, job_id, attempt))

    def drain(self) -> None:
        """Tell the worker to end."""
        self.send(Drain(self.epoch, "the test asked"))

    def send(self, message: LaneMessage) -> None:
        """Send anything on the lane."""
        self._orders.put(lambda: self._lane.send(LANE.encode(message)))

    def send_raw(self, frame: bytes) -> None:
        """Send bytes on the lane, whatever they are."""
        self._orders.put(lambda: self._lane.send(frame))

    def publish(self, topic: str, message: EventsMessage) -> None:
        """Send an event."""
        self._orders.put(lambda: self._events.send(encode_event(topic, message)))

    def turn_away(self, *, final: bool) -> None:
        """Turn the present incarnation away."""
        away = TurnedAway(self.epoch, self.incarnation, final, "the test said so")
        self.publish(self.incarnation, away)

    def restart(self) -> None:
        """Go on in a new epoch, on the same ports, as a restarted broker does."""

        def renew() -> None:
            self.epoch = uuid.uuid4().hex
            self._write_connection_file()
            beat = BrokerBeat(self.epoch, self._beat_s, full=False)
            self._events.send(encode_event(BEAT_TOPIC, beat))

        self._orders.put(renew)

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        sockets = [context.socket(kind) for kind in (zmq.PULL, zmq.XPUB, zmq.PUSH)]
        for one in sockets:
            one.linger = 0
        self._reports, self._events, self._lane = sockets
        self._ports = [one.bind_to_random_port("tcp://127.0.0.1") for one in sockets]
        self._write_connection_file()
        self._ready.set()
        while not self._ending.is_set():
            while not self._orders.empty():
                self._orders.get()()
            if self._reports.poll(_TURN_MS):
                self._take(REPORTS.decode(self._reports.recv()))
        context.destroy(linger=0)

    def _write_connection_file(self) -> None:
        reports, events, _ = (f"tcp://127.0.0.1:{port}" for port in self._ports)
        Connection(
            protocol=PROTOCOL_VERSION,
            version="test",
            epoch=self.epoch,
            jobs=reports,
            reports=reports,
            events=events,
        ).write(self.connection_file)

    def _take(self, message: ReportsMessage) -> None:
        if isinstance(message, Hello):
            if self.welcomes:
                self._welcome(message.incarnation)
        elif not isinstance(message, Bye):
            acks = self.acks_beats if isinstance(message, Beat) else self.acks_reports
            if acks and message.incarnation == self.incarnation:
                self._lane.send(LANE.encode(Ack(self.epoch, (message.seq,))))
        with self._news:
            self.heard.append(message)
            self._news.notify_all()

    def _welcome(self, incarnation: str) -> None:
        if self.incarnation != incarnation:
            # A lane belongs to one incarnation: what was in the old one's pipe is gone.
            self._lane.close(linger=0)
            self._lane = self._lane_socket()
        self.incarnation = incarnation
        endpoint = f"tcp://*:{self._ports[2]}"
        welcome = Welcome(self.epoch, incarnation, endpoint, self._lease_s, self._beat_s)
        self._events.send(encode_event(incarnation, welcome))

    def _lane_socket(self) -> zmq.Socket[bytes]:
        lane: zmq.Socket[bytes] = self._reports.context.socket(zmq.PUSH)
        lane.linger = 0
        self._ports[2] = lane.bind_to_random_port("tcp://127.0.0.1")
        return lane

    def _others(self) -> str:
        return ", ".join(repr(item) for item in self.heard if not isinstance(item, Beat))[-2000:]

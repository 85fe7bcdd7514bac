"""A scripted broker: real sockets and the real protocol, no workers, and trouble on demand."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import zmq

from imgserve.protocol.codec import JOBS, PROTOCOL_VERSION, encode_event
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import (
    BEAT_TOPIC,
    BrokerBeat,
    DeadLetters,
    JobState,
    Refusal,
    Refused,
    State,
    Stats,
)
from imgserve.protocol.jobs import AskStats, Cancel, Dead, JobsMessage, Replay, Submit

Step = JobState | Refused
Script = Callable[[Submit], list[tuple[State, Mapping[str, Any]]]]

DONE = {"width_px": 4, "height_px": 3, "size_bytes": 99, "seconds": {"total": 0.01}, "attempts": 1}


def finish(submit: Submit) -> list[tuple[State, Mapping[str, Any]]]:
    """Every job is accepted and done at once."""
    url = "http://there/done.png"
    return [
        (State.QUEUED, {}),
        (State.ACCEPTED, {"dst_url": url}),
        (State.DONE, {"dst_url": url, **DONE}),
    ]


def queue_only(submit: Submit) -> list[tuple[State, Mapping[str, Any]]]:
    """Jobs stay queued until the test says more."""
    return [(State.QUEUED, {})]


@dataclass
class Known:
    """A job as the double's journal has it."""

    submitter: str
    payload: bytes
    state: JobState


@dataclass
class BrokerDouble:
    """Runs on a thread; its attributes may be set at any time.

    Args:
        folder: where connection.json goes.
        script: what becomes of a fresh job, state by state.
        beat_s: between beats.
        mute: say nothing at all, but go on reading.
        deaf: read nothing.
        lose: how many of the next events to lose (they count in the sequence).
        lose_submits: how many of the next submits to overlook.
        refuse: refuse submits so.
        full: say so in beats.
    """

    folder: Path
    script: Script = finish
    beat_s: float = 0.1
    mute: bool = False
    deaf: bool = False
    lose: int = 0
    lose_submits: int = 0
    refuse: Refusal | None = None
    full: bool = False
    figures: dict[str, Any] = field(default_factory=dict)
    silent_stats: bool = False
    remember: bool = True

    def __post_init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.received: deque[JobsMessage] = deque(maxlen=200_000)
        self.submits = 0
        self.seqs: dict[str, int] = {}
        self.epochs = itertools.count(1)
        self.path = self.folder / "connection.json"
        self._context = zmq.Context()
        self._calls: deque[Callable[[], None]] = deque()
        self._stop = threading.Event()
        self.port_jobs = self.port_events = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._context.destroy(linger=0)

    def start(self, *, keep_ports: bool = True) -> None:
        """A new life: another epoch, the same journal."""
        self._stop.clear()
        self.seqs.clear()
        self.epoch = f"e{next(self.epochs)}"
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready, keep_ports), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """End this life without a word, as a kill would."""
        self._stop.set()
        self._thread.join(10)

    def restart(self, *, keep_ports: bool = True) -> None:
        """Die and come back."""
        self.stop()
        self.start(keep_ports=keep_ports)

    def say(self, job_id: str, state: State, **fields: Any) -> None:
        """Move a job to a state and say so."""
        self._calls.append(lambda: self._advance(job_id, state, fields))

    def asked(self, kind: type[JobsMessage]) -> list[Any]:
        """The messages of a kind received so far."""
        return [message for message in tuple(self.received) if isinstance(message, kind)]

    def _run(self, ready: threading.Event, keep_ports: bool) -> None:
        pull, pub = self._context.socket(zmq.PULL), self._context.socket(zmq.XPUB)
        pub.sndhwm = pull.rcvhwm = 100_000
        self._pub = pub
        self.port_jobs = _bind(pull, self.port_jobs if keep_ports else 0)
        self.port_events = _bind(pub, self.port_events if keep_ports else 0)
        host = "tcp://127.0.0.1"
        events = f"{host}:{self.port_events}"
        Connection(
            protocol=PROTOCOL_VERSION,
            version="0",
            epoch=self.epoch,
            jobs=f"{host}:{self.port_jobs}",
            reports=events,
            events=events,
        ).write(self.path)
        ready.set()
        beat_s, was_full = 0.0, self.full
        while not self._stop.is_set():
            now_s = time.monotonic()
            if now_s >= beat_s or self.full != was_full:
                beat_s, was_full = now_s + self.beat_s, self.full
                self._emit(BEAT_TOPIC, BrokerBeat(self.epoch, self.beat_s, self.full))
            while self._calls:
                self._calls.popleft()()
            if self.deaf:
                time.sleep(0.005)
            elif pull.poll(5):
                self._read(pull)
        pull.close(0)
        pub.close(0)

    def _read(self, pull: zmq.Socket[bytes]) -> None:
        for _ in range(500):
            try:
                message = JOBS.decode(pull.recv(zmq.DONTWAIT))
            except zmq.Again:
                return
            if self.remember:
                self.received.append(message)
            self._handle(message)

    def _handle(self, message: JobsMessage) -> None:
        match message:
            case Submit():
                self._submit(message)
            case Replay():
                for job_id in message.job_ids:
                    self._present(message.submitter, job_id)
            case Cancel():
                known = self.known.get(message.job_id)
                if known and known.state.state == State.QUEUED:
                    known.submitter = message.submitter
                    self._advance(message.job_id, State.CANCELLED, {"code": 406, "detail": "asked"})
                else:
                    self._present(message.submitter, message.job_id)
            case AskStats():
                if not self.silent_stats:
                    self._emit(message.submitter, Stats(self.epoch, self.figures))
            case Dead():
                letters = ({"id": "dead-1", "code": 401},)
                self._emit(message.submitter, DeadLetters(self.epoch, letters, message.action))

    def _submit(self, message: Submit) -> None:
        self.submits += 1
        if self.lose_submits > 0:
            self.lose_submits -= 1
            return
        known = self.known.get(message.job_id)
        if known is not None and known.payload != message.payload:
            self._refuse(message.submitter, message.job_id, Refusal.CONFLICT)
        elif known is not None:
            self._present(message.submitter, message.job_id)
        elif self.refuse is not None:
            self._refuse(message.submitter, message.job_id, self.refuse)
        else:
            for state, fields in self.script(message):
                if message.job_id not in self.known:
                    fresh = JobState(self.epoch, 0, message.job_id, State.QUEUED)
                    self.known[message.job_id] = Known(message.submitter, message.payload, fresh)
                self._advance(message.job_id, state, fields)

    def _advance(self, job_id: str, state: State, fields: Mapping[str, Any]) -> None:
        known = self.known[job_id]
        seq = self._next(known.submitter)
        known.state = JobState(self.epoch, seq, job_id, str(state), **fields)
        self._emit(known.submitter, known.state)

    def _present(self, submitter: str, job_id: str) -> None:
        known = self.known.get(job_id)
        if known is None:
            self._refuse(submitter, job_id, Refusal.UNKNOWN)
            return
        known.submitter = submitter
        fields = {
            name: getattr(known.state, name)
            for name in known.state.__slots__
            if name not in ("epoch", "seq", "job_id", "state")
        }
        self._advance(job_id, State(known.state.state), fields)

    def _refuse(self, submitter: str, job_id: str, reason: Refusal) -> None:
        seq = self._next(submitter)
        self._emit(submitter, Refused(self.epoch, seq, job_id, str(reason), f"{reason} here"))

    def _next(self, submitter: str) -> int:
        self.seqs[submitter] = self.seqs.get(submitter, 0) + 1
        return self.seqs[submitter]

    def _emit(self, topic: str, message: Any) -> None:
        if self.mute:
            return
        if self.lose > 0 and topic != BEAT_TOPIC:
            self.lose -= 1
            return
        self._pub.send(encode_event(topic, message))


def _bind(socket: zmq.Socket[bytes], port: int) -> int:
    """Bind to a port, again if need be: a restarted broker keeps its ports."""
    socket.linger = 0
    if port == 0:
        return socket.bind_to_random_port("tcp://127.0.0.1")
    deadline_s = time.monotonic() + 5
    while True:
        try:
            socket.bind(f"tcp://127.0.0.1:{port}")
        except zmq.ZMQError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return port

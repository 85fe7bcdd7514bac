"""A real broker process, and a peer that speaks to it with bare sockets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from imgserve.protocol.codec import JOBS, LANE, REPORTS, decode_event, topic_prefix
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import BrokerBeat, EventsMessage, JobState, Refused, Welcome
from imgserve.protocol.jobs import JobsMessage, Replay, Submit
from imgserve.protocol.lane import LaneMessage
from imgserve.protocol.reports import Beat, Hello, ReportsMessage
from tests.support.until import until

DEADLINE_S = 20


class BrokerProcess:
    """`imgserve broker` on a state folder, as a context manager; leaving kills it.

    Args:
        state: the folder; kept.
        settings: flags, such as lease_s=1.
    """

    def __init__(self, state: Path, **settings: object) -> None:
        self.state = state
        self._settings = {"broker_port": 0, "beat_s": 0.1} | settings

    def __enter__(self) -> Self:
        self.connection_file = self.state / "connection.json"
        former = self._epoch()
        self.process = self.spawn()
        until(lambda: self._epoch() not in ("", former) or self.process.poll() is not None)
        assert self.process.poll() is None, self.log
        self.connection = Connection.read(self.connection_file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start one, whatever becomes of it."""
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()]
        with (self.state / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "imgserve", "broker", f"--state={self.state}", *flags],
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM it; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    @property
    def log(self) -> str:
        """What it has logged, in all its lives."""
        return (self.state / "log").read_text()

    def _epoch(self) -> str:
        try:
            return str(json.loads(self.connection_file.read_text())["epoch"])
        except FileNotFoundError:
            return ""


class Peer:
    """Sockets of a submitter and of a worker in one, as a context manager."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.topic = f"peer-{uuid.uuid4().hex[:12]}"
        self.heard: list[tuple[str, EventsMessage]] = []
        self._seq = 0

    def __enter__(self) -> Self:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.jobs = self.socket(zmq.PUSH, self._connection.jobs)
        self.reports = self.socket(zmq.PUSH, self._connection.reports)
        self.events = self._context.socket(zmq.SUB)
        self.lane: zmq.Socket[bytes] | None = None
        for topic in (self.topic, "beat"):
            self.events.subscribe(topic_prefix(topic))
        self.events.connect(self._connection.events)
        self.wait(BrokerBeat)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.destroy(linger=0)

    def socket(self, kind: int, endpoint: str) -> zmq.Socket[bytes]:
        """A connected socket."""
        socket = self._context.socket(kind)
        socket.sndtimeo = DEADLINE_S * 1000
        socket.connect(endpoint)
        return socket

    def say(self, message: JobsMessage) -> None:
        """Send on the jobs socket."""
        self.jobs.send(JOBS.encode(message))

    def submit(self, job_id: str, payload: bytes = b"{}") -> None:
        """Submit a job."""
        self.say(Submit(job_id, self.topic, 0, payload))

    def report(self, message: ReportsMessage) -> None:
        """Send on the reports socket."""
        self.reports.send(REPORTS.encode(message))

    def listen(self, timeout_s: float = 0.02) -> None:
        """Take what has come."""
        while self.events.poll(int(timeout_s * 1000)):
            self.heard.append(decode_event(self.events.recv()))
            timeout_s = 0

    def wait(self, kind: type, count: int = 1) -> list[EventsMessage]:
        """The messages of a kind, once there are so many."""

        def found() -> list[EventsMessage]:
            self.listen()
            seen = [message for _, message in self.heard if isinstance(message, kind)]
            return seen if len(seen) >= count else []

        return until(found, DEADLINE_S)

    def states(self, job_id: str) -> list[str]:
        """What was said of a job."""
        return [
            str(message.state)
            for _, message in self.heard
            if isinstance(message, JobState) and message.job_id == job_id
        ]

    def wait_state(self, job_id: str, state: str) -> None:
        """Wait until a state was said of a job."""
        until(lambda: self.listen() or state in self.states(job_id), DEADLINE_S)

    def replay(self, *job_ids: str) -> dict[str, str]:
        """Ask where jobs are: job id to state, or to why there is none."""
        self.heard.clear()
        self.say(Replay(self.topic, job_ids))
        answers: dict[str, str] = {}

        def answered() -> bool:
            self.listen()
            for _, message in self.heard:
                if isinstance(message, JobState):
                    answers[message.job_id] = str(message.state)
                elif isinstance(message, Refused):
                    answers[message.job_id] = str(message.reason)
            return answers.keys() >= set(job_ids)

        until(answered, DEADLINE_S)
        return answers

    def join(self, slots: int = 1, former: tuple[str, ...] = ()) -> str:
        """Join as a worker that was `former` before; return the incarnation."""
        incarnation = f"w-{uuid.uuid4().hex[:8]}"
        self.events.subscribe(topic_prefix(incarnation))
        hello = Hello(incarnation, "host", 1, slots, "1", (), (), former)
        deadline_s = time.monotonic() + DEADLINE_S
        welcomes: list[EventsMessage] = []
        while not welcomes:
            assert time.monotonic() < deadline_s
            self.report(hello)
            self.listen(0.2)
            welcomes = [m for topic, m in self.heard if topic == incarnation]
        (welcome, *_) = welcomes
        assert isinstance(welcome, Welcome)
        self.lane = self.socket(zmq.PULL, welcome.endpoint)
        self.beat(incarnation)
        return incarnation

    def beat(self, incarnation: str, *running: tuple[str, int]) -> None:
        """Beat as a worker."""
        self._seq += 1
        self.report(Beat(incarnation, self._connection.epoch, self._seq, running, (), {}))

    def take(self, kind: type) -> LaneMessage:
        """The next message of a kind on the lane."""
        assert self.lane is not None
        while True:
            assert self.lane.poll(DEADLINE_S * 1000), "nothing came down the lane"
            message = LANE.decode(self.lane.recv())
            if isinstance(message, kind):
                return message

"""Many workers that do no work, each with sockets of its own, in one process.

usage: stub_fleet.py CONNECTION_FILE WORKERS

They answer every job with accepted and done. When the broker's epoch changes all of them say hello
again at once, each as a fresh incarnation: a storm that real workers, with their jitter, spread.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import zmq

from imgserve.errors import ConfigError
from imgserve.protocol import lane, reports
from imgserve.protocol.codec import LANE, REPORTS, decode_event, topic_prefix
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import BrokerBeat, Welcome

SLOTS = 4
BEAT_S = 1.0
HELLO_S = 2.0


class Stub:
    """One worker."""

    def __init__(self, context: zmq.Context, poller: zmq.Poller, connection: Connection) -> None:
        self._context = context
        self._poller = poller
        self.push = context.socket(zmq.PUSH)
        self.events = context.socket(zmq.SUB)
        for each in (self.push, self.events):
            each.linger = 0
        self.push.connect(connection.reports)
        self.events.connect(connection.events)
        self.events.subscribe(topic_prefix("beat"))
        poller.register(self.events, zmq.POLLIN)
        self.lane: zmq.Socket | None = None
        self.incarnation = ""
        self.begin()

    def begin(self) -> None:
        """Start a fresh incarnation."""
        if self.lane is not None:
            self._poller.unregister(self.lane)
            self.lane.close(linger=0)
        if self.incarnation:
            self.events.unsubscribe(topic_prefix(self.incarnation))
        self.lane, self.epoch, self.incarnation = None, "", uuid.uuid4().hex
        self.events.subscribe(topic_prefix(self.incarnation))
        self._seq = 0
        self._due_s = 0.0

    def step(self, now_s: float) -> None:
        """Say hello or beat when it is time."""
        if now_s < self._due_s:
            return
        if self.epoch:
            self._due_s = now_s + BEAT_S
            self._say(reports.Beat(self.incarnation, self.epoch, self._next(), (), (), {}))
        else:
            self._due_s = now_s + HELLO_S
            self._say(reports.Hello(self.incarnation, "stub", os.getpid(), SLOTS, "stub", ()))

    def hear(self) -> None:
        """Take what the broker says to all, or to this one."""
        while True:
            try:
                _, message = decode_event(self.events.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            if isinstance(message, BrokerBeat):
                if self.epoch and message.epoch != self.epoch:
                    self.begin()
            elif isinstance(message, Welcome) and not self.epoch:
                self.epoch = message.epoch
                self.lane = self._context.socket(zmq.PULL)
                self.lane.connect(message.endpoint)
                self._poller.register(self.lane, zmq.POLLIN)
                self._due_s = 0.0

    def work(self) -> None:
        """Answer every job that is there."""
        while self.lane is not None:
            try:
                message = LANE.decode(self.lane.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            if isinstance(message, lane.Job):
                named = (message.job_id, message.attempt)
                url = "http://127.0.0.1/stub.jpg"
                who = (self.incarnation, message.epoch)
                self._say(reports.Accepted(*who, self._next(), *named, url))
                self._say(reports.Done(*who, self._next(), *named, url, 1, 1, 1, {}))

    def _say(self, message: reports.ReportsMessage) -> None:
        with suppress(zmq.Again):
            self.push.send(REPORTS.encode(message), zmq.NOBLOCK)

    def _next(self) -> int:
        self._seq += 1
        return self._seq


def main(path: Path, count: int) -> None:
    """Run the stubs until told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 65_535)
    poller = zmq.Poller()
    while True:
        with suppress(OSError, ConfigError):
            connection = Connection.read(path)
            break
    stubs = [Stub(context, poller, connection) for _ in range(count)]
    while True:
        poller.poll(100)
        now_s = time.monotonic()
        for stub in stubs:
            stub.hear()
            stub.work()
            stub.step(now_s)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

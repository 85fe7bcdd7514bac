"""Workers that do no work: they say accepted and done for every job, from one process.

usage: stub_worker.py CONNECTION_FILE WORKERS
"""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from pathlib import Path

import zmq

from imgserve.protocol import lane, reports
from imgserve.protocol.codec import LANE, REPORTS, decode_event, topic_prefix
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import Welcome

SLOTS = 256
BEAT_S = 1.0


class Stub:
    """One worker on shared sockets for reports."""

    def __init__(self, context: zmq.Context, pusher: zmq.Socket) -> None:
        self.incarnation = uuid.uuid4().hex
        self.lane = context.socket(zmq.PULL)
        self.epoch = ""
        self._pusher = pusher
        self._seq = 0
        self._beaten_s = 0.0

    def hello(self) -> None:
        """Ask for a lane."""
        message = reports.Hello(self.incarnation, "stub", os.getpid(), SLOTS, "stub", ())
        self._pusher.send(REPORTS.encode(message))

    def join(self, welcome: Welcome) -> None:
        """Connect to the lane."""
        self.epoch = welcome.epoch
        self.lane.connect(welcome.endpoint)
        self.beat()

    def beat(self) -> None:
        """Say that it lives; a stub holds nothing for longer than a moment."""
        self._beaten_s = time.monotonic()
        message = reports.Beat(self.incarnation, self.epoch, self._next(), (), (), {})
        self._pusher.send(REPORTS.encode(message))

    def beat_if_due(self) -> None:
        """Beat about once a second."""
        if self.epoch and time.monotonic() - self._beaten_s > BEAT_S:
            self.beat()

    def work(self) -> None:
        """Answer every job that is there."""
        while True:
            try:
                message = LANE.decode(self.lane.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            if isinstance(message, lane.Job):
                self._answer(message)

    def _answer(self, job: lane.Job) -> None:
        named = (job.job_id, job.attempt)
        url = "http://127.0.0.1/stub.jpg"
        accepted = reports.Accepted(self.incarnation, job.epoch, self._next(), *named, url)
        self._pusher.send(REPORTS.encode(accepted))
        done = reports.Done(
            self.incarnation, job.epoch, self._next(), *named, url, 1, 1, 1, {"total": 0.001}
        )
        self._pusher.send(REPORTS.encode(done))

    def _next(self) -> int:
        self._seq += 1
        return self._seq


def main(path: str, count: int) -> None:
    """Run the stubs until told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    connection = Connection.read(Path(path))
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 65_535)
    events = context.socket(zmq.SUB)
    events.connect(connection.events)
    pusher = context.socket(zmq.PUSH)
    pusher.setsockopt(zmq.SNDHWM, 0)
    pusher.connect(connection.reports)
    stubs = {}
    for _ in range(count):
        stub = Stub(context, pusher)
        stubs[stub.incarnation] = stub
        events.subscribe(topic_prefix(stub.incarnation))
    serve(stubs, events)


def serve(stubs: dict[str, Stub], events: zmq.Socket) -> None:
    """Say hello until welcomed, answer jobs, beat."""
    poller = zmq.Poller()
    poller.register(events, zmq.POLLIN)
    by_lane = {stub.lane: stub for stub in stubs.values()}
    for each in by_lane:
        poller.register(each, zmq.POLLIN)
    hello_s = 0.0
    while True:
        if time.monotonic() - hello_s > 0.5:
            hello_s = time.monotonic()
            for stub in stubs.values():
                if not stub.epoch:
                    stub.hello()
        for ready, _ in poller.poll(200):
            if ready is events:
                topic, message = decode_event(events.recv())
                if isinstance(message, Welcome) and not stubs[topic].epoch:
                    stubs[topic].join(message)
            else:
                by_lane[ready].work()
        for stub in stubs.values():
            stub.beat_if_due()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

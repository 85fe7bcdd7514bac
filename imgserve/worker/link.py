"""The ZeroMQ sockets of one incarnation: reports out, events and lane in.

Plain sockets drained on the event loop: a future for each message costs more than the message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import zmq

from imgserve.errors import ProtocolError
from imgserve.protocol.codec import LANE, REPORTS, decode_event, topic_prefix
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import BEAT_TOPIC, EventsMessage
from imgserve.protocol.keys import PeerKey
from imgserve.protocol.lane import LaneMessage
from imgserve.protocol.reports import ReportsMessage
from imgserve.protocol.sockets import new_socket, readable, receive, refusals, secure_peer
from imgserve.worker.seldom import Seldom

log = logging.getLogger(__name__)

HIGH_WATER_MESSAGES: Final = 25_000
"""Two reports for each of the most slots a worker can have, and some beats."""

LAST_WORDS_MS: Final = 1000
"""How long closing waits for a `bye` to leave; a broker that is gone must not hold up an exit."""

_WILDCARDS: Final = frozenset({"*", "0.0.0.0", "[::]", "::"})  # noqa: S104 - compared with, not bound


class Link:
    """Sends reports, and hands every message that arrives to its handler.

    Args:
        context: the worker's ZeroMQ context.
        connection: where the broker is.
        incarnation: the topic to listen on.
        key: the worker's own, where the broker asks for keys.
        on_event, on_lane: called on the event loop, in the order of arrival.
        on_refused: called on the event loop when the broker refuses the key.
    """

    def __init__(  # noqa: PLR0913 (its peer, its key and its two hearers)
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        connection: Connection,
        incarnation: str,
        *,
        on_event: Callable[[EventsMessage], None],
        on_lane: Callable[[LaneMessage], None],
        on_refused: Callable[[], None],
        key: PeerKey | None = None,
    ) -> None:
        self._context = context
        self._key = key
        self._connection = connection
        self._incarnation = incarnation
        self._on_event = on_event
        self._on_lane = on_lane
        self._on_refused = on_refused
        self._bad_frames = Seldom(10.0)
        self._exits = ExitStack()
        self._reports: zmq.Socket[bytes] | None = None

    def __enter__(self) -> Self:
        self._reports = self._open(zmq.PUSH)
        self._watch_refusals(self._reports)
        self._reports.connect(self._connection.reports)
        events = self._open(zmq.SUB)
        for topic in (self._incarnation, BEAT_TOPIC):
            events.subscribe(topic_prefix(topic))
        events.connect(self._connection.events)
        self._listen(events, lambda frame: self._on_event(decode_event(frame)[1]))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reports = None
        self._exits.close()

    def open_lane(self, endpoint: str) -> None:
        """Connect the lane that the broker named in its welcome."""
        lane = self._open(zmq.PULL)
        lane.connect(lane_endpoint(endpoint, self._connection.events))
        self._listen(lane, lambda frame: self._on_lane(LANE.decode(frame)))

    def send(self, message: ReportsMessage) -> bool:
        """Send a message if there is room for it; tell whether there was."""
        if self._reports is None:
            return False
        try:
            self._reports.send(REPORTS.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def linger(self) -> None:
        """Let closing wait a moment for what was sent last."""
        if self._reports is not None:
            self._reports.linger = LAST_WORDS_MS

    def _open(self, kind: int) -> zmq.Socket[bytes]:
        socket = new_socket(self._context, kind, high_water_mark=HIGH_WATER_MESSAGES)
        self._exits.callback(socket.close)
        secure_peer(socket, self._key)
        return socket

    def _watch_refusals(self, socket: zmq.Socket[bytes]) -> None:
        monitor = refusals(socket)
        self._exits.callback(socket.disable_monitor)
        self._read_when_readable(monitor, partial(self._hear_refusals, monitor))

    def _hear_refusals(self, monitor: zmq.Socket[bytes]) -> None:
        while not monitor.closed and readable(monitor):
            monitor.recv_multipart(zmq.NOBLOCK)
            self._on_refused()

    def _listen(self, socket: zmq.Socket[bytes], handle: Callable[[bytes], None]) -> None:
        self._read_when_readable(socket, partial(self._drain, socket, handle))

    def _read_when_readable(self, socket: zmq.Socket[bytes], read: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        descriptor = socket.fileno()
        loop.add_reader(descriptor, read)
        self._exits.callback(loop.remove_reader, descriptor)
        # The descriptor tells of changes only; what connecting has brought already is read now.
        loop.call_soon(read)

    def _drain(self, socket: zmq.Socket[bytes], handle: Callable[[bytes], None]) -> None:
        """Read until nothing is left: only then does the descriptor tell of the next message."""
        while not socket.closed and readable(socket):
            try:
                handle(receive(socket))
            except ProtocolError as exc:
                if skipped := self._bad_frames.due():
                    log.warning("%d unreadable messages from the broker: %s", skipped, exc)
            except Exception:
                # Stopping here would leave the rest unread for good.
                log.exception("a message from the broker could not be handled")


def lane_endpoint(endpoint: str, events: str) -> str:
    """Put the host of the events socket where the broker named a wildcard."""
    scheme, _, address = endpoint.partition("://")
    host, _, port = address.rpartition(":")
    if scheme != "tcp" or host not in _WILDCARDS:
        return endpoint
    reachable = urlsplit(events).netloc.rpartition(":")[0]
    return f"tcp://{reachable}:{port}"

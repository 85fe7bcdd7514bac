"""The submitter's two sockets to the broker, found through its connection file, on one loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zmq

from imgserve.errors import ConfigError, ProtocolError
from imgserve.protocol.codec import (
    JOBS,
    decode_event,
    topic_prefix,
)
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import BEAT_TOPIC, EventsMessage
from imgserve.protocol.jobs import JobsMessage
from imgserve.protocol.keys import KeySource, PeerKey, Role
from imgserve.protocol.sockets import new_socket, readable, receive, secure_peer

log = logging.getLogger(__name__)

SEND_MARK: Final = 1000
"""Submits that libzmq holds before backpressure is felt: some milliseconds of work."""

RECEIVE_MARK: Final = 100_000
"""Events that libzmq holds for a busy process; what does not fit is lost, noticed and replayed."""

LINGER_MS: Final = 2000
"""What was sent before a clean close still goes out, if the broker is there to take it."""

DRAIN_FRAMES: Final = 256
"""Events read in one turn of the loop, so that a flood lets others run."""


class Link:
    """Connects, sends, receives; knows nothing of jobs.

    Args:
        path: the broker's connection file.
        submitter: the topic to hear.
        on_event: called with each message that arrives.
        on_drained: called after each turn of reading, and when the backlog is gone.
        keys: where the submitter's key is, should the broker ask for one.
    """

    def __init__(
        self,
        *,
        path: Path,
        submitter: str,
        on_event: Callable[[EventsMessage], None],
        on_drained: Callable[[], None],
        keys: KeySource,
    ) -> None:
        self._path = path
        self._keys = keys
        self._submitter = submitter
        self._on_event = on_event
        self._on_drained = on_drained
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._push: zmq.Socket[bytes] | None = None
        self._sub: zmq.Socket[bytes] | None = None
        self._backlog: deque[bytes] = deque()
        self._complained = ""
        self.connection: Connection | None = None

    @property
    def blocked(self) -> bool:
        """Whether the broker takes nothing now: the high-water mark is reached."""
        return bool(self._backlog)

    def refresh(self, *, force: bool = False) -> bool:
        """Read the connection file; connect anew if it names other sockets, or if forced.

        Returns: whether there are new sockets.
        """
        try:
            connection = Connection.read(self._path)
            key = self._keys.find(Role.SUBMITTER, connection.server_key)
        except (OSError, ConfigError) as exc:
            self._complain(f"{exc}; waiting for the broker")
            return False
        known = self.connection
        self.connection = connection
        same = known and _sockets_of(known) == _sockets_of(connection)
        if same and not force:
            return False
        self._disconnect(linger_ms=0)
        self._connect(connection, key)
        return True

    def send(self, message: JobsMessage) -> None:
        """Send a message, or keep it until the broker takes it; nothing when not connected."""
        if self._push is None:
            return
        frame = JOBS.encode(message)
        if self._backlog:
            self._backlog.append(frame)
            return
        try:
            self._push.send(frame, zmq.DONTWAIT)
        except zmq.Again:
            self._backlog.append(frame)

    async def close(self) -> None:
        """Close the sockets; what was sent still goes out, for LINGER_MS at most."""
        self._disconnect(linger_ms=LINGER_MS)
        await asyncio.to_thread(self._context.term)

    def _connect(self, connection: Connection, key: PeerKey | None) -> None:
        sub = new_socket(self._context, zmq.SUB, high_water_mark=RECEIVE_MARK)
        push = new_socket(self._context, zmq.PUSH, high_water_mark=SEND_MARK)
        for socket in (sub, push):
            secure_peer(socket, key)
            socket.reconnect_ivl = 50
            socket.reconnect_ivl_max = 1000
        # The own topic first: whoever hears a beat then knows that both subscriptions are in place.
        sub.subscribe(topic_prefix(self._submitter))
        sub.subscribe(topic_prefix(BEAT_TOPIC))
        sub.connect(connection.events)
        push.connect(connection.jobs)
        self._sub, self._push = sub, push
        self._loop.add_reader(sub.fileno(), self._drain)
        self._loop.add_reader(push.fileno(), self._flush)
        log.debug("connected to the broker at %s", connection.jobs)

    def _disconnect(self, linger_ms: int) -> None:
        for socket in (self._sub, self._push):
            if socket is not None:
                self._loop.remove_reader(socket.fileno())
                socket.close(linger_ms)
        self._sub = self._push = None
        self._backlog.clear()  # the ledger knows what was not acknowledged

    def _drain(self) -> None:
        """Read until nothing is left: libzmq's descriptor tells of changes, not of states."""
        sub = self._sub
        if sub is None:
            return
        for _ in range(DRAIN_FRAMES):
            if not readable(sub):
                break
            try:
                _, message = decode_event(receive(sub))
            except ProtocolError as exc:
                self._complain(f"an event cannot be read: {exc}")
                continue
            self._on_event(message)
            if self._sub is not sub:
                return
        else:
            self._loop.call_soon(self._drain)
        self._on_drained()

    def _flush(self) -> None:
        push = self._push
        if push is None:
            return
        push.getsockopt(zmq.EVENTS)  # takes the descriptor's news, else it stays readable
        if not self._backlog:
            return
        try:
            while self._backlog:
                push.send(self._backlog[0], zmq.DONTWAIT)
                self._backlog.popleft()
        except zmq.Again:
            return
        self._on_drained()

    def _complain(self, sentence: str) -> None:
        """Say each trouble once, not once a turn."""
        if sentence != self._complained:
            self._complained = sentence
            log.warning("%s", sentence)


def _sockets_of(connection: Connection) -> tuple[str, str, str]:
    return connection.jobs, connection.events, connection.server_key

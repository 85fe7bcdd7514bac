"""The lanes: one bound PUSH socket per worker, so that work reaches just the worker it is for."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

import zmq

from imgserve.protocol.keys import Domain, ServerKey
from imgserve.protocol.sockets import new_socket, secure_server

log = logging.getLogger(__name__)

LAST_PORT: Final = 65_535
OUTBOX_LIMIT: Final = 20_000
"""Frames kept for a lane that cannot take them now; credit keeps it far below this."""


class NoLaneError(Exception):
    """Raised when no port is left for a lane."""


class Lanes:
    """The lanes of all workers.

    Args:
        host: the address to bind.
        advertise: the host name that workers connect to.
        first_port: the first port to try; 0: any free one.
        last_port: the last one.
        server_key: the broker's, None where everyone may connect.
    """

    def __init__(  # noqa: PLR0913 (made in one place, by name)
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        host: str,
        advertise: str,
        first_port: int,
        last_port: int = LAST_PORT,
        server_key: ServerKey | None = None,
    ) -> None:
        self._context = context
        self._server_key = server_key
        self._host = host
        self._advertise = advertise
        self._first_port = first_port
        self._last_port = last_port
        self._next_port = first_port
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._outboxes: dict[str, deque[bytes]] = {}

    def __len__(self) -> int:
        return len(self._sockets)

    def open(self, incarnation: str) -> str:
        """Bind a lane and return its endpoint.

        Raises: NoLaneError when no port is left, or no descriptor.
        """
        try:
            lane = new_socket(self._context, zmq.PUSH)
        except zmq.ZMQError as exc:
            raise NoLaneError(f"the broker cannot open another socket: {exc}") from exc
        try:
            secure_server(lane, self._server_key, Domain.LANE)
            port = self._bind(lane)
        except BaseException:
            lane.close()
            raise
        self._sockets[incarnation] = lane
        return f"tcp://{self._advertise}:{port}"

    def _bind(self, lane: zmq.Socket[bytes]) -> int:
        if not self._first_port:
            return int(lane.bind_to_random_port(f"tcp://{self._host}"))
        # Round and round: a worker of a former life may still call at the port it had.
        for _ in range(self._first_port, self._last_port + 1):
            port = self._next_port
            self._next_port = port + 1 if port < self._last_port else self._first_port
            try:
                lane.bind(f"tcp://{self._host}:{port}")
            except zmq.ZMQError as exc:
                if exc.errno != zmq.EADDRINUSE:
                    raise NoLaneError(f"no lane can be bound on port {port}: {exc}") from exc
            else:
                return port
        raise NoLaneError(
            f"every lane port from {self._first_port} to {self._last_port} is in use: raise the "
            "broker's --last-lane-port, and open the firewall up to there, or run fewer workers"
        )

    def send(self, incarnation: str, frame: bytes) -> None:
        """Take a frame for a lane; it goes out with the next flush that the lane can take it in."""
        if incarnation in self._sockets:
            outbox = self._outboxes.get(incarnation)
            if outbox is None:
                outbox = self._outboxes[incarnation] = deque(maxlen=OUTBOX_LIMIT)
            outbox.append(frame)

    def flush(self) -> None:
        """Send what waits for lanes that can take it now."""
        for incarnation, outbox in list(self._outboxes.items()):
            lane = self._sockets[incarnation]
            try:
                while outbox:
                    lane.send(outbox[0], zmq.NOBLOCK)
                    outbox.popleft()
            except zmq.Again:
                continue
            del self._outboxes[incarnation]

    def close(self, incarnation: str) -> None:
        """Close a lane; what is still in it was for a worker that is gone."""
        self._outboxes.pop(incarnation, None)
        lane = self._sockets.pop(incarnation, None)
        if lane is not None:
            lane.close(linger=0)

    def close_all(self, linger_ms: int) -> None:
        """Close every lane, giving frames under way a moment."""
        self._outboxes.clear()
        while self._sockets:
            _, lane = self._sockets.popitem()
            lane.close(linger=linger_ms)

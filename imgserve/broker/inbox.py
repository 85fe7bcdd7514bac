"""Read one PULL socket: one frame a message, decoded, trouble logged now and then."""

from __future__ import annotations

import logging
import time
from typing import Final, Generic, TypeVar

import zmq

from imgserve.errors import ProtocolError
from imgserve.protocol.codec import Codec, VersionMismatch
from imgserve.protocol.sockets import readable, receive

log = logging.getLogger(__name__)

COMPLAIN_EVERY_S: Final = 5.0
"""A peer that sends garbage fills no log."""

Message = TypeVar("Message")


class Inbox(Generic[Message]):
    """The messages of one socket.

    Args:
        name: for the log.
    """

    def __init__(self, socket: zmq.Socket[bytes], codec: Codec[Message], name: str) -> None:
        self._socket = socket
        self._codec = codec
        self._name = name
        self._more = False
        self._refused = 0
        self._complained_s = float("-inf")

    def read(self) -> Message | None:
        """Return the next good message, None when nothing is there.

        Raises: VersionMismatch, so that the sender can be told.
        """
        while self._more or readable(self._socket):
            # After the first the exception of an empty socket is cheaper: messages come in batches,
            # and the question before each costs as much as two of them.
            self._more = True
            try:
                return self._codec.decode(receive(self._socket))
            except zmq.Again:
                self._more = False
                return None
            except VersionMismatch as exc:
                self._complain(exc)
                raise
            except ProtocolError as exc:
                self._complain(exc)
        return None

    def _complain(self, exc: ProtocolError) -> None:
        self._refused += 1
        if time.monotonic() - self._complained_s >= COMPLAIN_EVERY_S:
            self._complained_s = time.monotonic()
            log.warning("%s: %d messages refused so far: %s", self._name, self._refused, exc)

"""When the broker's turns begin: at once while little goes on, at a measured pace under load."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterable
from typing import Final

import zmq

LONGEST_PAUSE_S: Final = 0.02
"""Between the beginnings of two turns under load, at most."""

ENOUGH_MESSAGES: Final = 12
"""Under load a turn waits until about so many have come. One for nearly every message, each with
its wake-ups, its commit and cold caches, costs three times what the messages themselves cost."""


class Bell:
    """Calls for a turn when a socket has something, or when it is rung.

    Args:
        sockets: whose descriptors tell of something to do. They signal edges only: what a turn
            leaves unread it must ring for itself.
        turn: the turn; it returns how many messages it took. Turns never overlap.
        hurried: asked when something comes: whether a turn must begin at once.
    """

    def __init__(
        self,
        sockets: Iterable[zmq.Socket[bytes]],
        *,
        turn: Callable[[], int],
        hurried: Callable[[], bool],
    ) -> None:
        self._turn = turn
        self._hurried = hurried
        self._loop = asyncio.get_running_loop()
        self._began_s = 0.0
        self.pause_s = 0.0
        self._due: asyncio.Handle | None = None
        # One descriptor for all: it is let go of while a turn waits, or it would ring all along.
        self._descriptors = select.epoll()
        for socket in sockets:
            self._descriptors.register(socket.fileno(), select.EPOLLIN)
        self._loop.add_reader(self._descriptors.fileno(), self._ring)

    def ring(self, *, at_once: bool = False) -> None:
        """Call for a turn; at once: there is a lot to do already."""
        if self._due is None:
            wait_s = 0 if at_once else self._wait_s()
            if wait_s > 0:
                self._postpone(wait_s)
            else:
                self._due = self._loop.call_soon(self._begin)

    def close(self) -> None:
        """Call for no more."""
        if self._due is not None:
            self._due.cancel()
        self._loop.remove_reader(self._descriptors.fileno())
        self._descriptors.close()

    def _ring(self) -> None:
        wait_s = self._wait_s() if self._due is None else 0
        if wait_s > 0:
            self._postpone(wait_s)
        else:
            self._begin()

    def _wait_s(self) -> float:
        return 0 if self._hurried() else self._began_s + self.pause_s - self._loop.time()

    def _postpone(self, wait_s: float) -> None:
        self._loop.remove_reader(self._descriptors.fileno())
        self._due = self._loop.call_later(wait_s, self._begin)

    def _begin(self) -> None:
        if self._due is not None:
            if isinstance(self._due, asyncio.TimerHandle):
                self._loop.add_reader(self._descriptors.fileno(), self._ring)
            self._due.cancel()
            self._due = None
        now_s = self._loop.time()
        since_s, self._began_s = now_s - self._began_s, now_s
        if taken := self._turn():
            self.pause_s = min(LONGEST_PAUSE_S, since_s * ENOUGH_MESSAGES / taken)

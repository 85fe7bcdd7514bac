"""When the broker's turns begin: at once while little goes on, at a measured pace under load."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import zmq

LONGEST_PAUSE_S: Final = 0.1
"""Between the beginnings of two turns under load, at most. A turn for nearly every message, with
its wake-ups, its commit and cold caches, costs three times what the messages themselves cost."""

MEMORY: Final = 0.8
"""What of the messages and seconds so far counts at the next turn: messages come in bursts."""


@dataclass(frozen=True, slots=True)
class Door:
    """Sockets with one hurry.

    Args:
        sockets: whose descriptors tell of something to do. They signal edges only: what a turn
            leaves unread it must ring for itself.
        hurried: asked when something comes: whether a turn must begin at once.
    """

    sockets: Sequence[zmq.Socket[bytes]]
    hurried: Callable[[], bool]


class Bell:
    """Calls for a turn when something is at a door, or when it is rung.

    Args:
        doors: the first one's hurry is that of a ring, too.
        turn: the turn; it returns how many messages it took. Turns never overlap.
        enough: how many messages are worth waiting for, under load.
    """

    def __init__(
        self, doors: Sequence[Door], *, turn: Callable[[], int], enough: Callable[[], float]
    ) -> None:
        self._turn = turn
        self._enough = enough
        self._messages = self._seconds = 0.0
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._due: asyncio.Handle | None = None
        self._first = doors[0]
        self._muted: list[tuple[select.epoll, Door]] = []
        self.pause_s = 0.0
        # One descriptor a door: it is let go of while a turn waits, or it would ring all along.
        self._descriptors: list[select.epoll] = []
        for door in doors:
            descriptors = select.epoll()
            for socket in door.sockets:
                descriptors.register(socket.fileno(), select.EPOLLIN)
            self._descriptors.append(descriptors)
            self._listen(descriptors, door)

    def ring(self, *, at_once: bool = False) -> None:
        """Call for a turn; at once: there is a lot to do already."""
        if self._due is None:
            wait_s = 0 if at_once else self._wait_s(self._first)
            if wait_s > 0:
                self._due = self._loop.call_later(wait_s, self._begin)
            else:
                self._due = self._loop.call_soon(self._begin)

    def close(self) -> None:
        """Call for no more."""
        if self._due is not None:
            self._due.cancel()
        while self._descriptors:
            descriptors = self._descriptors.pop()
            self._loop.remove_reader(descriptors.fileno())
            descriptors.close()

    def _listen(self, descriptors: select.epoll, door: Door) -> None:
        self._loop.add_reader(descriptors.fileno(), self._at, descriptors, door)

    def _at(self, descriptors: select.epoll, door: Door) -> None:
        wait_s = self._wait_s(door)
        if wait_s <= 0:
            self._begin()
            return
        self._loop.remove_reader(descriptors.fileno())
        self._muted.append((descriptors, door))
        if self._due is None:
            self._due = self._loop.call_later(wait_s, self._begin)

    def _wait_s(self, door: Door) -> float:
        return 0 if door.hurried() else self._began_s + self.pause_s - self._loop.time()

    def _begin(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        while self._muted:
            self._listen(*self._muted.pop())
        now_s = self._loop.time()
        since_s, self._began_s = now_s - self._began_s, now_s
        self._messages = MEMORY * self._messages + self._turn()
        self._seconds = MEMORY * self._seconds + since_s
        worth_s = self._enough() * self._seconds / max(self._messages, 1e-9)
        self.pause_s = min(LONGEST_PAUSE_S, worth_s)

"""How many connections one FTP server is given: a setting, and less where the server says so.

FTP servers count connections by host and by user, and refuse those over their limit with 421 or
530. A worker that opens many at once would lose its own jobs by that.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from imgserve.worker.transfers.trouble import TransferFailed

RECOVERY_S: Final = 30.0
"""After so long without a refusal one connection more is tried."""

_SERVERS_LIMIT: Final = 1000


class Places:
    """The connections to one server.

    Args:
        endpoint: the server, for messages.
        limit: how many there may be at most.
    """

    def __init__(self, endpoint: str, limit: int) -> None:
        self._endpoint = endpoint
        self._limit = limit
        self._changed_s = time.monotonic()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.allowed = limit
        self.in_use = 0

    @property
    def unused(self) -> bool:
        """Whether nothing runs or waits, and nothing was learnt."""
        return not (self.in_use or self._waiting) and self.allowed == self._limit

    @asynccontextmanager
    async def take(self, deadline_s: float) -> AsyncIterator[None]:
        """Hold one place; who came first gets it first.

        Raises:
            TransferFailed: there was none in time (monotonic clock).
        """
        if self.in_use >= self.allowed or self._waiting:
            await self._wait(deadline_s)
        else:
            self.in_use += 1
        try:
            yield
        finally:
            self.in_use -= 1
            self._hand_over()

    def worked(self) -> None:
        """A connection was good: after a while one more may be."""
        now_s = time.monotonic()
        if self.allowed < self._limit and now_s - self._changed_s >= RECOVERY_S:
            self.allowed, self._changed_s = self.allowed + 1, now_s
            self._hand_over()

    def refused(self, began_s: float) -> None:
        """The server has refused a connection: half as many are used from now on.

        Args:
            began_s: when it was tried (monotonic clock). What was tried before the last change
                says nothing of what is allowed since.
        """
        if began_s >= self._changed_s:
            self.allowed = max(1, self.allowed // 2)
            self._changed_s = time.monotonic()

    async def _wait(self, deadline_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                await turn
        except BaseException as exc:
            if turn.done() and not turn.cancelled():  # handed over just then
                self.in_use -= 1
                self._hand_over()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(exc, TimeoutError):
                raise TransferFailed(
                    f"no connection to {self._endpoint} was free in time; "
                    f"{self.allowed} are used at once (--ftp-connections)",
                    retryable=True,
                ) from exc
            raise

    def _hand_over(self) -> None:
        while self._waiting and self.in_use < self.allowed:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_use += 1
                turn.set_result(None)


class FtpServers:
    """The places of every server that is in use, or that has refused connections."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[str, Places] = {}

    def of(self, endpoint: str) -> Places:
        """Return a server's places."""
        found = self._places.get(endpoint)
        if found is None:
            if len(self._places) >= _SERVERS_LIMIT:  # strangers name servers
                self._places = {
                    name: places for name, places in self._places.items() if not places.unused
                }
            found = self._places[endpoint] = Places(endpoint, self._limit)
        return found

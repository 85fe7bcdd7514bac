"""One job's source: a download that stays within the worker's memory."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from imgserve.errors import SourceTooLarge
from imgserve.worker.budget import MemoryBudget
from imgserve.worker.transfers import Download

GROWTH: Final = 8
"""How much more a source is given that turned out larger than it was given at first."""


class Source:
    """A download that may first take its slot's own memory, and more of the shared memory later.

    A running download cannot be held back, so it gets a limit that its memory covers. Where it
    passes that limit, it is ended, more memory is reserved and it is fetched anew; a server that
    announces the size is left before any body has come. So memory is bounded by the budget, and
    only a source larger than a slot's own share is asked for twice.

    Args:
        fetch: starts a download with a limit in bytes.
        budget: where memory comes from.
        limit_bytes: the largest source allowed at all.
    """

    def __init__(
        self, fetch: Callable[[int], Download], *, budget: MemoryBudget, limit_bytes: int
    ) -> None:
        self._fetch = fetch
        self._budget = budget
        self._limit_bytes = limit_bytes
        self._given_bytes = min(limit_bytes, budget.allowance_bytes)
        self._reserved_bytes = 0
        self._download: Download | None = None

    async def __aenter__(self) -> Self:
        self._download = await self._fetch(self._given_bytes).__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        return self._running().complete

    async def head(self, size_bytes: int) -> bytes:
        """Wait for the first bytes; see `Download.head`."""
        while True:
            try:
                return await self._running().head(size_bytes)
            except SourceTooLarge as error:
                await self._fetch_larger(error)

    async def body(self) -> bytes:
        """Wait for all bytes; see `Download.body`."""
        while True:
            try:
                return await self._running().body()
            except SourceTooLarge as error:
                await self._fetch_larger(error)

    async def _fetch_larger(self, error: SourceTooLarge) -> None:
        if self._given_bytes >= self._limit_bytes:
            raise error
        # What it holds goes first: a job that held memory while it waits could wait for ever.
        await self._close()
        self._given_bytes = min(self._limit_bytes, GROWTH * self._given_bytes)
        self._reserved_bytes = await self._budget.reserve(self._given_bytes)
        self._download = await self._fetch(self._given_bytes).__aenter__()

    async def _close(self) -> None:
        try:
            if self._download is not None:
                await self._download.__aexit__(None, None, None)
        finally:
            self._download = None
            if self._reserved_bytes:
                self._budget.release(self._reserved_bytes)
                self._reserved_bytes = 0

    def _running(self) -> Download:
        if self._download is None:
            raise RuntimeError("a Source starts with `async with`")
        return self._download

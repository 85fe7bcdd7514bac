"""A source takes more memory only when it turns out to need it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import pytest

from imgserve.errors import SourceTooLarge, SourceUnreachable
from imgserve.worker.budget import MemoryBudget
from imgserve.worker.source import Source
from imgserve.worker.transfers import Download


@dataclass
class Server:
    """Gives a body of a size, head first; a limit below the size ends the download."""

    size_bytes: int
    announces_size: bool = True
    fails: Exception | None = None
    limits: list[int] = field(default_factory=list)
    open: int = 0

    def fetch(self, limit_bytes: int) -> Download:
        """Start a download."""
        self.limits.append(limit_bytes)
        return cast("Download", _Download(self, limit_bytes))


class _Download:
    complete = False

    def __init__(self, server: Server, limit_bytes: int) -> None:
        self._server, self._limit_bytes = server, limit_bytes

    async def __aenter__(self) -> Self:
        self._server.open += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.open -= 1

    async def head(self, size_bytes: int) -> bytes:
        """Some bytes, unless the size is known to be over the limit."""
        if self._server.announces_size:
            self._check()
        return bytes(size_bytes)

    async def body(self) -> bytes:
        """All bytes."""
        self._check()
        return bytes(self._server.size_bytes)

    def _check(self) -> None:
        if self._server.fails is not None:
            raise self._server.fails
        if self._server.size_bytes > self._limit_bytes:
            raise SourceTooLarge


def fetched(server: Server, budget: MemoryBudget, take: Callable[[Source], Awaitable[Any]]) -> Any:
    """Open a source of at most 1,000 bytes and take something of it."""

    async def life() -> Any:
        async with Source(server.fetch, budget=budget, limit_bytes=1000) as source:
            return await take(source)

    return asyncio.run(asyncio.wait_for(life(), 5))


def a_budget() -> MemoryBudget:
    """10 bytes for each of 50 slots, and 500 to share."""
    return MemoryBudget(1000, 50)


@pytest.mark.parametrize(
    ("size_bytes", "limits"),
    [(10, [10]), (11, [10, 80]), (80, [10, 80]), (81, [10, 80, 640]), (1000, [10, 80, 640, 1000])],
)
@pytest.mark.parametrize("announces_size", [True, False])
def test_a_source_is_asked_for_again_with_more_memory(size_bytes, limits, announces_size):
    """A source that fits into its slot's share is fetched once, a larger one in steps."""
    server, budget = Server(size_bytes, announces_size), a_budget()
    body = fetched(server, budget, lambda source: source.body())
    assert len(body) == size_bytes
    assert server.limits == limits
    assert (server.open, budget._free_bytes) == (0, 500)


def test_the_head_of_a_large_source_comes_too():
    """A source whose announced size is too large for the share still shows its head."""
    server = Server(500)
    assert len(fetched(server, a_budget(), lambda source: source.head(4))) == 4
    assert server.limits == [10, 80, 640]


def test_a_source_over_the_limit_is_refused():
    """The limit itself stays, and nothing stays reserved."""
    server, budget = Server(1001), a_budget()
    with pytest.raises(SourceTooLarge):
        fetched(server, budget, lambda source: source.body())
    assert (server.open, budget._free_bytes) == (0, 500)


def test_other_trouble_is_passed_on():
    """Only a source that is too large for its memory is asked for again."""
    server = Server(5, fails=SourceUnreachable())
    with pytest.raises(SourceUnreachable):
        fetched(server, a_budget(), lambda source: source.body())
    assert server.limits == [10]


def test_memory_is_held_until_the_source_is_closed():
    """What the body takes stays reserved while pixels are made of it."""
    server, budget = Server(50), a_budget()

    async def hold(source: Source) -> int:
        await source.body()
        return budget._free_bytes

    assert fetched(server, budget, hold) == 420

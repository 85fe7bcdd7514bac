"""Memory for sources and results is shared in order of arrival, and never more than there is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from imgserve.worker.budget import MemoryBudget, Room


async def turns() -> None:
    """Let every task run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine."""
    asyncio.run(asyncio.wait_for(coroutine, 5))


def test_half_belongs_to_the_slots_and_half_is_shared():
    """Each slot has its own part of one half."""
    budget = MemoryBudget(1600, 8)
    assert budget.allowance_bytes == 100
    assert budget._shared_bytes == 800


def test_reservations_are_served_in_order():
    """A small reservation does not pass a large one that came first."""

    async def scenario() -> None:
        budget = MemoryBudget(200, 1)
        served: list[str] = []

        async def take(name: str, size: int) -> None:
            await budget.reserve(size)
            served.append(name)

        assert await budget.reserve(60) == 60
        waiting = [asyncio.create_task(take(*ask)) for ask in (("large", 50), ("small", 10))]
        await turns()
        assert served == []
        budget.release(60)
        await turns()
        assert served == ["large", "small"]
        await asyncio.gather(*waiting)

    run(scenario())


def test_a_reservation_over_everything_gets_everything():
    """The largest source waits until it is alone, and then goes on."""

    async def scenario() -> None:
        budget = MemoryBudget(200, 1)
        assert await budget.reserve(1_000_000) == 100
        late = asyncio.create_task(budget.reserve(1))
        await turns()
        assert not late.done()
        budget.release(100)
        assert await late == 1

    run(scenario())


def test_who_stops_waiting_holds_up_nobody():
    """A cancelled wait, even in the moment of its turn, loses no memory."""

    async def scenario() -> None:
        budget = MemoryBudget(200, 1)
        await budget.reserve(60)
        first, second = (asyncio.create_task(budget.reserve(size)) for size in (90, 40))
        await turns()
        first.cancel()
        await turns()
        assert second.done()  # its 40 fit beside the 60
        third = asyncio.create_task(budget.reserve(100))
        await turns()
        budget.release(60)
        budget.release(40)  # the third's turn comes here, and it is cancelled before it notices
        third.cancel()
        await turns()
        assert await budget.reserve(100) == 100

    run(scenario())


def test_results_have_room_before_they_are_made():
    """The most that one may take is taken first, and what it does not take is given back."""

    async def scenario() -> None:
        budget = MemoryBudget(200, 1)
        with Room(budget) as small, Room(budget) as large, Room(budget) as late:
            await large.take(1_000)
            await small.take(100)  # the slot's own memory: it does not wait
            small.keep(100)
            waiting = asyncio.create_task(late.take(101))
            await turns()
            assert not waiting.done()
            large.keep(100)  # it became no larger than any slot's own
            await waiting
            late.keep(150)  # larger than was foreseen, and counted
            assert budget._free_bytes == -50
        assert budget._free_bytes == 100

    run(scenario())


def test_who_has_no_room_yet_and_stops_takes_none():
    """As when its job is cancelled."""

    async def scenario() -> None:
        budget = MemoryBudget(200, 1)
        with Room(budget) as large:
            await large.take(100 + 1)

            async def wait() -> None:
                with Room(budget) as late:
                    await late.take(100 + 1)

            waiting = asyncio.create_task(wait())
            await turns()
            waiting.cancel()
            await turns()
        assert budget._free_bytes == 100

    run(scenario())

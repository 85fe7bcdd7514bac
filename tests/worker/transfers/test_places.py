"""The places of one FTP server: first come, first served; fewer after a refusal."""

from __future__ import annotations

import asyncio
import time

import pytest

from imgserve.worker.transfers import places as module
from imgserve.worker.transfers.places import FtpServers, Places
from imgserve.worker.transfers.trouble import TransferFailed


def soon() -> float:
    return time.monotonic() + 10


def test_places_go_to_who_came_first():
    """No more than there are at once."""

    async def scenario() -> None:
        places, order, most = Places("ftp:21", 2), [], 0

        async def work(number: int) -> None:
            nonlocal most
            async with places.take(soon()):
                most = max(most, places.in_use)
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*map(work, range(20)))
        assert (order, most, places.in_use) == (list(range(20)), 2, 0)

    asyncio.run(scenario())


def test_refusal_leaves_half():
    """At least one; what is over it ends by itself and gives its place to nobody."""

    async def scenario() -> None:
        places = Places("ftp:21", 4)
        async with places.take(soon()), places.take(soon()), places.take(soon()):
            began_s = time.monotonic()
            places.refused(began_s)
            places.refused(began_s - 1)  # one that was tried before the change
            assert places.allowed == 2
            with pytest.raises(TransferFailed, match="2 are used at once") as caught:
                async with places.take(time.monotonic() + 0.01):
                    pass
            assert caught.value.retryable
        places.refused(time.monotonic())
        places.refused(time.monotonic())
        assert places.allowed == 1
        async with places.take(soon()):
            pass

    asyncio.run(scenario())


def test_more_are_tried_after_a_while(monkeypatch):
    """One at a time, up to the setting."""
    places = Places("ftp:21", 3)
    places.refused(time.monotonic())
    places.worked()
    assert places.allowed == 1
    monkeypatch.setattr(module, "RECOVERY_S", 0.0)
    for allowed in (2, 3, 3):
        places.worked()
        assert places.allowed == allowed


def test_cancelled_waits_take_no_place():
    """Neither before nor just after a place was handed to them."""

    async def scenario() -> None:
        places = Places("ftp:21", 1)

        async def hold() -> None:
            async with places.take(soon()):
                await asyncio.sleep(10)

        holder, waiter, last = (asyncio.create_task(hold()) for _ in range(3))
        await asyncio.sleep(0)
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        await asyncio.sleep(0)
        assert places.in_use == 1
        last.cancel()
        await asyncio.gather(last, return_exceptions=True)
        assert places.in_use == 0
        assert places.unused

    asyncio.run(scenario())


def test_servers_that_strangers_name_are_forgotten():
    """What was learnt, and what is in use, is kept."""
    servers = FtpServers(4)
    servers.of("learnt").refused(time.monotonic())
    for number in range(3000):
        servers.of(str(number))
    assert servers.of("learnt").allowed == 2
    assert len(servers._places) <= 1001

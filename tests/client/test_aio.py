"""The asynchronous client: the same promises with await."""

from __future__ import annotations

import asyncio

import pytest

from imgserve.client import AsyncClient
from imgserve.errors import JobConflict, RequestInvalid, ServiceUnavailable
from imgserve.protocol.events import State
from tests.client.conftest import QUICK
from tests.support.broker_double import queue_only
from tests.support.eventually import eventually
from tests.support.gateway_run import REQUEST


def run(broker, scene):
    """Play an async scene with an open client."""

    async def main():
        async with AsyncClient(broker.path, timing=QUICK, flush_s=1) as client:
            async with asyncio.timeout(20):
                await scene(client)

    asyncio.run(main())


def numbered(count):
    """That many requests with ids."""
    for number in range(count):
        yield f"job-{number}", {**REQUEST, "srcURL": f"http://there/{number}.png"}


def test_a_job_is_accepted_and_done(broker):
    """Reply first, outcome next, figures on demand."""

    async def scene(client):
        job = await client.submit(REQUEST)
        assert await job.accepted() == {"dstURL": "http://there/done.png"}
        assert (await job.result()).size_bytes == 99
        assert (await client.find(job.id)).state == State.DONE
        assert await client.find("never") is None
        assert (await client.cancel(job.id)).state == State.DONE
        assert await client.stats() == {}
        assert (await client.dead("list")).letters

    run(broker, scene)


def test_errors_are_the_same_as_of_the_blocking_client(broker):
    """Invalid at once, late after its time, conflict as said by the broker."""

    async def scene(client):
        with pytest.raises(RequestInvalid):
            await client.submit({})
        await (await client.submit(REQUEST, id="used")).result()
        broker.script = queue_only
        late = await client.submit(REQUEST)
        with pytest.raises(ServiceUnavailable):
            await late.accepted(timeout_s=0.1)
        other = await client.submit({**REQUEST, "srcURL": "http://there/b.png"}, id="used")
        with pytest.raises(JobConflict):
            await other.accepted()

    run(broker, scene)


def test_a_wait_can_be_cancelled_and_leaves_nothing_behind(broker):
    """The caller's cancellation is no timeout."""
    broker.script = queue_only

    async def scene(client):
        job = await client.submit(REQUEST)
        task = asyncio.create_task(job.accepted())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert job.entry.watchers == []

    run(broker, scene)


def test_map_survives_restarts_of_the_broker_and_loses_nothing(broker):
    """As with the blocking client, over an ordinary or an asynchronous iterable."""

    async def scene(client):
        ids = []
        async for outcome in client.map(numbered(1000), window=50):
            ids.append(outcome.id)
            if len(ids) == 300:
                broker.lose, broker.lose_submits = 30, 10
                await asyncio.to_thread(broker.restart)
        assert sorted(ids) == sorted(job_id for job_id, _ in numbered(1000))

        async def later():
            for item in numbered(3):
                yield item

        assert len([outcome async for outcome in client.map(later())]) == 3

    run(broker, scene)


def test_submit_waits_while_the_broker_is_full(broker):
    """Backpressure without an error."""

    async def scene(client):
        await (await client.submit(REQUEST)).result()
        broker.full = True
        await asyncio.to_thread(eventually, lambda: client.congested)
        task = asyncio.create_task(client.submit(REQUEST))
        done, _ = await asyncio.wait((task,), timeout=0.3)
        assert not done
        broker.full = False
        assert (await (await task).result()).state == State.DONE

    run(broker, scene)


def test_a_closed_client_says_so(tmp_path):
    """503, not an attribute error."""

    async def main():
        client = AsyncClient(tmp_path / "connection.json")
        with pytest.raises(ServiceUnavailable):
            await client.find("x")

    asyncio.run(main())

"""A client behind a connection that a NAT forgot: submits vanish while events still come."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from imgserve.client import AsyncClient
from imgserve.protocol.connection import Connection
from scripts.chaos_lib.proxy import Wire
from tests.support.broker_double import BrokerDouble
from tests.support.gateway_run import REQUEST

HOST = "127.0.1.201"


def test_a_client_leaves_a_connection_that_swallows_its_submits(tmp_path):
    """Nothing answers what it says although beats come: it connects anew and submits again."""

    async def scene(broker: BrokerDouble) -> None:
        wire = Wire(HOST, {broker.port_jobs: "jobs", broker.port_events: "events"})
        await wire.start()
        path = tmp_path / "through.json"
        near = Connection.read(broker.path)
        replace(
            near,
            jobs=near.jobs.replace("127.0.0.1", HOST),
            events=near.events.replace("127.0.0.1", HOST),
        ).write(path)
        try:
            async with AsyncClient(path) as client, asyncio.timeout(20):
                await (await client.submit(REQUEST, "before")).result()
                wire.deafen(["jobs"], ["up"])
                await (await client.submit(REQUEST, "behind")).result()
        finally:
            wire.close()
            while wire._links:  # noqa: ASYNC110 (they end in a few turns)
                await asyncio.sleep(0)

    with BrokerDouble(tmp_path) as broker:
        asyncio.run(scene(broker))

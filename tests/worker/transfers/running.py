"""Run one transfer to its end from a test that is not async."""

from __future__ import annotations

import asyncio

from imgserve.request import Destination
from imgserve.worker.transfers import Transfers, TransferSettings
from tests.worker.transfers.peers import LOOPBACK

OPEN = TransferSettings(allow_networks=LOOPBACK)


def fetch(url: str, settings: TransferSettings = OPEN, *, limit_bytes: int | None = None) -> bytes:
    """Fetch a source whole."""

    async def run() -> bytes:
        async with (
            Transfers(settings) as transfers,
            transfers.fetch(url, limit_bytes=limit_bytes) as download,
        ):
            return await download.body()

    return asyncio.run(run())


def upload(destination: Destination, body: bytes, settings: TransferSettings = OPEN) -> None:
    """Upload one body."""

    async def run() -> None:
        async with Transfers(settings) as transfers:
            await transfers.upload(destination, body, content_type="image/png")

    asyncio.run(run())

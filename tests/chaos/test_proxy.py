"""The proxy passes bytes, and delays, holds, resets, refuses and swallows them when told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from scripts.chaos_lib.proxy import Wire

HOST = "127.0.1.200"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def through(scene: Callable[[Wire, Callable[[], Awaitable[Streams]]], Awaitable[None]]) -> None:
    """Play a scene with a wire before an echo server."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def play() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        wire = Wire(HOST, {port: "jobs"})
        await wire.start()
        opened: list[asyncio.StreamWriter] = []

        async def connect() -> Streams:
            reader, writer = await asyncio.open_connection(HOST, port)
            opened.append(writer)
            return reader, writer

        try:
            async with asyncio.timeout(10):
                await scene(wire, connect)
        finally:
            for writer in opened:
                writer.transport.abort()
            wire.close()
            server.close()
            while wire._links:  # noqa: ASYNC110 (they end in a few turns)
                await asyncio.sleep(0)

    asyncio.run(play())


async def said(streams: Streams, word: bytes = b"hello") -> bytes:
    """What the echo server answers to a word."""
    reader, writer = streams
    writer.write(word)
    return await reader.read(1000)


async def silent(streams: Streams) -> bool:
    """Whether nothing comes for a moment."""
    try:
        async with asyncio.timeout(0.2):
            await streams[0].read(1000)
    except TimeoutError:
        return True
    return False


def test_it_passes_bytes():
    """A healthy wire changes nothing."""

    async def scene(wire, connect):
        assert await said(await connect()) == b"hello"

    through(scene)


def test_held_bytes_come_late():
    """What is sent during a partition arrives once it is over."""

    async def scene(wire, connect):
        streams = await connect()
        await said(streams)
        wire.hold()
        streams[1].write(b"late")
        assert await silent(streams)
        wire.heal()
        assert await streams[0].read(1000) == b"late"

    through(scene)


def test_delay_takes_its_time():
    """Each chunk waits as long as asked, both ways."""

    async def scene(wire, connect):
        streams = await connect()
        wire.delay(0.1)
        began_s = time.monotonic()
        assert await said(streams) == b"hello"
        assert time.monotonic() - began_s >= 0.2

    through(scene)


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_deaf_direction_stays_deaf_and_new_connections_are_well(way):
    """A half-open connection swallows bytes for ever; only a new one helps."""

    async def scene(wire, connect):
        streams = await connect()
        await said(streams)
        wire.deafen(["jobs"], [way])
        streams[1].write(b"lost")
        assert await silent(streams)
        wire.heal()
        streams[1].write(b"lost too")
        assert await silent(streams)
        assert await said(await connect()) == b"hello"

    through(scene)


def test_reset_breaks_connections():
    """A reset reaches the peer as a reset."""

    async def scene(wire, connect):
        streams = await connect()
        await said(streams)
        wire.reset()
        with pytest.raises(ConnectionResetError):
            await streams[0].read(1000)

    through(scene)


def test_refused_connections_end_at_once():
    """While a wire refuses, new connections end without a byte; afterwards they are welcome."""

    async def scene(wire, connect):
        wire.refuse()
        streams = await connect()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await streams[0].readexactly(1)
        wire.heal()
        assert await said(await connect()) == b"hello"

    through(scene)

"""A TCP proxy that delays, holds, resets and half-opens what goes through it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CHUNK_BYTES = 65_536
RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class Link:
    """One connection through the proxy; a deaf direction swallows its bytes for ever."""

    channel: str
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    deaf: set[str] = field(default_factory=set)

    def reset(self) -> None:
        """Break off with an RST on both sides."""
        for writer in (self.near, self.far):
            if writer is None:
                continue
            connection = writer.get_extra_info("socket")
            if connection is not None and connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
            writer.transport.abort()


class Wire:
    """All connections of one peer to the broker.

    Args:
        host: the loopback address that it listens on, and only this peer connects to.
        channels: port -> jobs, reports, events or lane; the same ports at the target.
        target: where the broker is.
    """

    def __init__(self, host: str, channels: Mapping[int, str], target: str = "127.0.0.1") -> None:
        self.host = host
        self._channels = channels
        self._target = target
        self._servers: list[asyncio.Server] = []
        self._links: set[Link] = set()
        self._delay_s = 0.0
        self._refusing = False
        self._open = asyncio.Event()
        self._open.set()

    def __repr__(self) -> str:
        return f"<Wire {self.host}, {len(self._links)} connections>"

    async def start(self) -> None:
        """Listen on every port."""
        for port, channel in self._channels.items():
            server = await asyncio.start_server(self._accept(channel), self.host, port)
            self._servers.append(server)

    def close(self) -> None:
        """Stop listening and break off every connection."""
        for server in self._servers:
            server.close()
        for link in list(self._links):
            link.reset()

    def delay(self, seconds: float) -> None:
        """Let every chunk wait this long."""
        self._delay_s = seconds

    def hold(self) -> None:
        """Let nothing through; what comes meanwhile is delivered late, at `heal`."""
        self._open.clear()

    def refuse(self) -> None:
        """Break off new connections, and those there are."""
        self._refusing = True
        self.reset()

    def reset(self) -> None:
        """Break off every connection; new ones are welcome."""
        for link in list(self._links):
            link.reset()

    def deafen(self, channels: Iterable[str], directions: Iterable[str]) -> None:
        """Swallow what connections of these channels carry, for ever; new ones are well.

        This is what a NAT that forgot a connection does, or a peer that lost power.

        Args:
            channels: of jobs, reports, events, lane.
            directions: of `up` (to the broker) and `down`.
        """
        wanted = set(channels)
        for link in self._links:
            if link.channel in wanted:
                link.deaf |= set(directions)

    def heal(self) -> None:
        """Let everything through again; deaf connections stay deaf."""
        self._delay_s = 0.0
        self._refusing = False
        self._open.set()

    def _accept(self, channel: str):  # noqa: ANN202 (the callback's type is asyncio's own)
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            port = writer.get_extra_info("sockname")[1]
            await self._carry(Link(channel, writer), reader, port)

        return serve

    async def _carry(self, link: Link, reader: asyncio.StreamReader, port: int) -> None:
        self._links.add(link)
        try:
            if self._refusing:
                return
            await self._open.wait()
            far_reader, link.far = await asyncio.open_connection(self._target, port)
            up = self._pump(link, "up", reader, link.far)
            down = self._pump(link, "down", far_reader, link.near)
            await asyncio.gather(up, down)
        except OSError:
            pass
        finally:
            link.reset()
            self._links.discard(link)

    async def _pump(
        self, link: Link, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._open.wait()
            if way not in link.deaf:
                writer.write(chunk)
                await writer.drain()
        if not link.deaf:  # whoever sits behind a dead connection does not hear the other's end
            await self._open.wait()
            raise ConnectionResetError

"""The worker: finds the broker, joins it, and joins again after every loss, until told to end."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import uuid
from pathlib import Path
from typing import Final

import zmq

import imgserve
from imgserve.config import Settings
from imgserve.errors import ConfigError
from imgserve.protocol.connection import Connection
from imgserve.protocol.keys import KeySource, PeerKey, Role
from imgserve.protocol.reports import Hello
from imgserve.worker.budget import MemoryBudget
from imgserve.worker.fence import Fence, running_fence
from imgserve.worker.link import Link
from imgserve.worker.parts import (
    build_capacity,
    build_pixel_settings,
    build_source_limits,
    build_transfer_settings,
)
from imgserve.worker.pixels import PixelPool
from imgserve.worker.seldom import Seldom
from imgserve.worker.session import Ending, Session
from imgserve.worker.tools import Tools
from imgserve.worker.transfers import Transfers

log = logging.getLogger(__name__)

EXIT_DRAINED: Final = os.EX_OK
EXIT_TURNED_AWAY: Final = os.EX_PROTOCOL
"""The broker does not want this worker as it is; starting it again would not help."""
EXIT_NO_PIXELS: Final = os.EX_UNAVAILABLE
"""No pixel process came up; the log says why."""

FIRST_WAIT_S: Final = 0.1
LAST_WAIT_S: Final = 2.0
WAITING_LOG_S: Final = 30.0


async def serve(settings: Settings, *, stop: asyncio.Event) -> int:
    """Work for the broker of the connection file until `stop` is set, then drain.

    Args:
        settings: of every part; the worker's are read.
        stop: set when the worker is asked to end.

    Returns: the exit code, `EXIT_…`.
    """
    capacity = build_capacity(settings)
    memory = MemoryBudget(settings.download_memory_bytes, capacity.slots)
    pool = PixelPool(build_pixel_settings(settings, capacity.processes))
    fence = running_fence()
    async with Transfers(build_transfer_settings(settings), may_send=fence.open) as transfers:
        try:
            await pool.__aenter__()
        except (OSError, ConfigError) as exc:  # TimeoutError, ConnectionError among them
            log.error("no pixel process came up: %s", exc)  # noqa: TRY400 - the process said why
            return EXIT_NO_PIXELS
        try:
            limits = build_source_limits(settings)
            tools = Tools(transfers=transfers, pixels=pool, memory=memory, limits=limits)
            agent = Agent(settings, tools, slots=capacity.slots, stop=stop, fence=fence)
            return await agent.run()
        finally:
            await pool.__aexit__(None, None, None)


class Agent:
    """Lives one incarnation after the other."""

    def __init__(
        self,
        settings: Settings,
        tools: Tools,
        *,
        slots: int,
        stop: asyncio.Event,
        fence: Fence,
    ) -> None:
        self._settings = settings
        self._tools = tools
        self._slots = slots
        self._stop = stop
        self._fence = fence
        self._key: PeerKey | None = None
        self._session: Session | None = None
        self._wait_s = FIRST_WAIT_S

    async def run(self) -> int:
        """Join, serve, join again; return the exit code."""
        watcher = asyncio.create_task(self._watch_stop())
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            while (connection := await self._find_broker()) is not None:
                ending = await self._live_once(context, connection)
                if ending is not Ending.LOST:
                    return EXIT_DRAINED if ending is Ending.DRAINED else EXIT_TURNED_AWAY
            return EXIT_DRAINED
        finally:
            watcher.cancel()
            context.term()

    async def _live_once(
        self, context: zmq.Context[zmq.Socket[bytes]], connection: Connection
    ) -> Ending:
        session = self._session = Session(
            self._hello(),
            self._tools,
            drain_timeout_s=self._settings.drain_timeout_s,
            fence=self._fence,
        )
        link = Link(
            context,
            connection,
            session.incarnation,
            on_event=session.on_event,
            on_lane=session.on_lane,
            key=self._key,
        )
        try:
            with link:
                ending = await session.run(link, moved=lambda: self._moved(connection))
        finally:
            self._session = None
        if session.welcomed:
            self._wait_s = FIRST_WAIT_S
        if ending is Ending.LOST:
            await self._pause()
        return ending

    def _hello(self) -> Hello:
        return Hello(
            incarnation=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=self._slots,
            version=imgserve.__version__,
            pixel_pids=tuple(self._tools.pixels.pids),
        )

    async def _find_broker(self) -> Connection | None:
        """Wait for a good connection file; None when told to end before."""
        waiting = Seldom(WAITING_LOG_S)
        path = self._settings.connection_file
        keys = KeySource(self._settings.key, (path.parent, self._settings.state_dir))
        while not self._stop.is_set():
            try:
                connection = Connection.read(path)
                self._key = keys.find(Role.WORKER, connection.server_key)
            except (OSError, ConfigError) as exc:
                if waiting.due():
                    log.info("waiting for the broker: %s", _why(path, exc))
            else:
                return connection
            await self._pause()
        return None

    def _moved(self, connection: Connection) -> bool:
        try:
            return Connection.read(self._settings.connection_file) != connection
        except (OSError, ConfigError):
            return False

    async def _pause(self) -> None:
        """Wait before the next try, longer each time, with jitter against herds of workers."""
        try:
            async with asyncio.timeout(self._wait_s * random.uniform(0.5, 1.0)):  # noqa: S311
                await self._stop.wait()
        except TimeoutError:
            self._wait_s = min(2 * self._wait_s, LAST_WAIT_S)

    async def _watch_stop(self) -> None:
        await self._stop.wait()
        if self._session is not None:
            self._session.drain("asked to end")


def _why(path: Path, exc: Exception) -> str:
    return f"{path} is not there yet" if isinstance(exc, FileNotFoundError) else str(exc)

"""The worker: finds the broker, joins it, and joins again after every loss, until told to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import uuid
from collections import deque
from pathlib import Path
from typing import Final

import zmq

import imgserve
from imgserve.config import Settings
from imgserve.errors import ConfigError
from imgserve.protocol.connection import Connection, OtherProtocol
from imgserve.protocol.keys import KeySource, PeerKey, Role
from imgserve.protocol.reports import Hello
from imgserve.worker.budget import MemoryBudget
from imgserve.worker.fence import Fence, running_fence
from imgserve.worker.link import Link
from imgserve.worker.liveness import Liveness, Systemd
from imgserve.worker.parts import (
    build_capacity,
    build_pixel_settings,
    build_result_limits,
    build_source_limits,
    build_transfer_settings,
)
from imgserve.worker.pixels import PixelPool, fonts_report
from imgserve.worker.pixels.settings import system_font_dirs
from imgserve.worker.retirement import Condition, Leave, Retirement
from imgserve.worker.seldom import Seldom
from imgserve.worker.session import Ending, Session
from imgserve.worker.tools import Tools
from imgserve.worker.transfers import Transfers
from imgserve.worker.vitals import vitals

log = logging.getLogger(__name__)

EXIT_DRAINED: Final = os.EX_OK
EXIT_TURNED_AWAY: Final = os.EX_PROTOCOL
"""The broker does not want this worker as it is; starting it again would not help."""
EXIT_NO_PIXELS: Final = os.EX_UNAVAILABLE
"""No pixel process came up; the log says why."""
EXIT_NO_FONTS: Final = os.EX_OSFILE
"""Fonts are demanded and none is installed."""
EXIT_CANNOT_CREATE: Final = os.EX_CANTCREAT
"""The liveness file cannot be written."""

WATCH_S: Final = 0.25
"""How late a reason to leave may be noticed."""

FIRST_WAIT_S: Final = 0.1
LAST_WAIT_S: Final = 2.0
REFUSED_LIMIT_S: Final = 2.0
"""A key that is still refused after this is not permitted: the broker reads them every second."""
FORMER_LIMIT: Final = 16
"""Earlier incarnations that a hello names: the lease of those before is long over."""
WAITING_LOG_S: Final = 30.0


async def serve(settings: Settings, *, stop: asyncio.Event) -> int:
    """Work for the broker of the connection file until `stop` is set, then drain.

    Args:
        settings: of every part; the worker's are read.
        stop: set when the worker is asked to end.

    Returns: the exit code, `EXIT_…`.
    """
    capacity = build_capacity(settings)
    if settings.require_fonts and (lack := fonts_report(system_font_dirs())) is not True:
        log.error("%s", lack)
        return EXIT_NO_FONTS
    try:
        systemd = Systemd(os.environ.get("NOTIFY_SOCKET", ""))
        liveness = Liveness(settings.liveness_file, systemd)
    except ConfigError as exc:
        log.error("%s", exc)  # noqa: TRY400 - the sentence says it all
        return EXIT_CANNOT_CREATE
    memory = MemoryBudget(settings.download_memory_bytes, capacity.slots)
    upload_memory = MemoryBudget(settings.upload_memory_bytes, capacity.slots)
    pool = PixelPool(build_pixel_settings(settings, capacity.processes))
    fence = running_fence()
    async with Transfers(build_transfer_settings(settings), may_send=fence.open) as transfers:
        try:
            await pool.__aenter__()
        except (OSError, ConfigError) as exc:  # TimeoutError, ConnectionError among them
            log.error("no pixel process came up: %s", exc)  # noqa: TRY400 - the process said why
            return EXIT_NO_PIXELS
        try:
            systemd.ready()
            tools = Tools(
                transfers=transfers,
                pixels=pool,
                memory=memory,
                upload_memory=upload_memory,
                limits=build_source_limits(settings),
                results=build_result_limits(settings),
            )
            agent = Agent(
                settings, tools, slots=capacity.slots, stop=stop, fence=fence, liveness=liveness
            )
            return await agent.run()
        finally:
            liveness.close()
            await pool.__aexit__(None, None, None)


class Agent:
    """Lives one incarnation after the other."""

    def __init__(  # noqa: PLR0913 - made in one place, by name
        self,
        settings: Settings,
        tools: Tools,
        *,
        slots: int,
        stop: asyncio.Event,
        fence: Fence,
        liveness: Liveness,
    ) -> None:
        self._settings = settings
        self._tools = tools
        self._slots = slots
        self._stop = stop
        self._liveness = liveness
        self._leave: Leave | None = None
        self._leaving = asyncio.Event()
        self._ended = 0
        self._trouble = ""
        self._fence = fence
        self._key: PeerKey | None = None
        self._session: Session | None = None
        self._refused_since_s = float("inf")
        self._former: deque[str] = deque(maxlen=FORMER_LIMIT)
        self._wait_s = FIRST_WAIT_S

    async def run(self) -> int:
        """Join, serve, join again; return the exit code."""
        watcher = asyncio.create_task(self._watch())
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            while (connection := await self._find_broker()) is not None:
                ending = await self._live_once(context, connection)
                if ending is Ending.TURNED_AWAY or self._refused_for_good(ending):
                    return EXIT_TURNED_AWAY
                if ending is Ending.DRAINED:
                    break
        except OtherProtocol as exc:
            log.error("%s", exc)  # noqa: TRY400 - the sentence says it all
            return EXIT_TURNED_AWAY
        else:
            return EXIT_DRAINED if self._leave is None else self._leave.exit_code
        finally:
            watcher.cancel()
            context.term()

    def _refused_for_good(self, ending: Ending) -> bool:
        """Tell whether the broker goes on refusing the key, and say so."""
        if ending is not Ending.REFUSED:
            self._refused_since_s = float("inf")
            return False
        now_s = self._tools.clock()
        self._refused_since_s = min(self._refused_since_s, now_s)
        if now_s - self._refused_since_s < REFUSED_LIMIT_S:
            return False
        log.error(
            "the broker refuses the key of this worker: it was revoked, or was never permitted; "
            "`imgserve keys` on the broker's machine lists the permitted ones and makes others"
        )
        return True

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
            on_refused=session.on_refused,
            key=self._key,
        )
        try:
            with link:
                ending = await session.run(link, moved=lambda: self._moved(connection))
        finally:
            self._ended += session.ended
            if session.settled:
                self._former.append(session.incarnation)
            self._session = None
        if session.welcomed:
            self._wait_s = FIRST_WAIT_S
        if ending in {Ending.LOST, Ending.REFUSED}:
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
            tags=self._settings.tags,
            former=tuple(self._former),
        )

    async def _find_broker(self) -> Connection | None:
        """Wait for a good connection file; None when told to end before."""
        waiting = Seldom(WAITING_LOG_S)
        path = self._settings.connection_file
        keys = KeySource(self._settings.key, (path.parent, self._settings.state_dir))
        while not self._leaving.is_set():
            try:
                connection = Connection.read(path)
                self._key = keys.find(Role.WORKER, connection.server_key)
            except OtherProtocol:
                raise
            except (OSError, ConfigError) as exc:
                self._trouble = _why(path, exc)
                if waiting.due():
                    log.info("waiting for the broker: %s", self._trouble)
            else:
                self._trouble = (
                    f"nothing answers at {connection.reports}, which {path} names; is the broker "
                    "up, is the file its latest, and do firewalls let it through?"
                )
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
                await self._leaving.wait()
        except TimeoutError:
            self._wait_s = min(2 * self._wait_s, LAST_WAIT_S)

    async def _watch(self) -> None:
        """Look at the worker now and then, until there is a reason to leave."""
        clock = self._tools.clock
        retirement = Retirement(self._settings, born_s=clock(), luck=random.random())  # noqa: S311
        alone_since_s = clock()
        while self._leave is None:
            self._liveness.systemd.alive()
            session = self._session
            with_broker = session is not None and session.welcomed
            if session is not None and with_broker:
                alone_since_s = clock()
                self._liveness.renewed(session.lease_end_s)
            if self._stop.is_set():
                self._leave = Leave("asked to end")
                break
            self._leave = retirement.due(
                Condition(
                    now_s=clock(),
                    alone_since_s=None if with_broker else alone_since_s,
                    ended=self._ended + (session.ended if session is not None else 0),
                    rss_bytes=self._rss_bytes() if retirement.watches_memory else 0,
                    trouble=self._trouble,
                )
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), WATCH_S)
        if self._leave.exit_code != os.EX_OK:
            log.error("giving up: %s", self._leave.reason)
        self._leaving.set()
        self._liveness.systemd.leaving(self._leave.reason)
        if self._session is not None:
            self._session.drain(self._leave.reason)
        await self._stay_alive()

    async def _stay_alive(self) -> None:
        """A long drain is life, too."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._liveness.systemd.alive()
            if self._session is not None:
                self._liveness.renewed(self._session.lease_end_s)

    def _rss_bytes(self) -> float:
        return vitals(self._tools.pixels.all_pids)["rss_bytes"]


def _why(path: Path, exc: Exception) -> str:
    return f"{path} is not there yet" if isinstance(exc, FileNotFoundError) else str(exc)

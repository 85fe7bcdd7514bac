"""The supervisor: owns the HTTP port, starts the parts, keeps them alive, stops them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import imgserve
from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.flags import to_flags
from imgserve.commands.handover import Sockets, offered
from imgserve.commands.listening import address_of, http_status, url_of
from imgserve.commands.origin import Origin
from imgserve.commands.part import Part, first_finished
from imgserve.commands.service_file import ServiceRecord, service_file
from imgserve.config import Settings

START_TIMEOUT_S: Final = 30.0
"""Longest wait for the first worker: on a slow disk the image libraries load for seconds."""

MARGIN_S: Final = 5.0
"""What a part gets over its own drain time before it is killed."""

BROKER_GRACE_S: Final = 15.0
"""The broker only has to write its journal's last batch."""

RECORD_RETRY_S: Final = 1.0
"""Until the record is written again where that failed, for example on a full disk."""

_READY_POLL_S: Final = 0.1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Announcement:
    """How the start went, told once: the service is ready, or why it is not."""

    ready: bool
    record: ServiceRecord
    reason: str = ""


class Supervisor:
    """Runs gateway, broker and worker as child processes.

    Args:
        settings: of every part; they get them as flags.
        sockets: what it listens on. They stay open here, so that connections wait in their
            backlog while a gateway is started again. The probes are asked here whether the
            service is ready: strangers fill the HTTP port, not theirs.
        origin: where the settings came from, for the record.
        log_file: where the parts write their logs; None for stderr.
        announce: told once how the start went.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sockets: Sockets,
        origin: Origin,
        log_file: Path | None,
        announce: Callable[[Announcement], None],
    ) -> None:
        self._settings = settings
        self._listeners = sockets
        self._announce = announce
        self._stop = asyncio.Event()
        self._broken = ""
        self._killed = False
        self._rewrite: asyncio.TimerHandle | None = None
        self._file = service_file(settings.state_dir)
        host, port = address_of(sockets.http)
        self._record = ServiceRecord(
            pid=os.getpid(),
            version=imgserve.__version__,
            url=url_of(host, port, tls=settings.tls_cert is not None),
            host=host,
            port=port,
            probe_url=url_of(*address_of(sockets.probes)),
            origin=origin,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._parts = _parts(settings, self._listeners, log_file, self._write)

    async def run(self) -> ExitCode:
        """Start, watch and stop the parts; return when none is left."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        self._write()
        for part in self._parts:
            part.start()
        watch = asyncio.create_task(self._watch())
        reason = await self._started() or self._broken
        if reason or self._stop.is_set():
            await self._kill()
        else:
            self._phase("running")
            self._announce(Announcement(ready=True, record=self._record))
            async with offered(self._settings.state_dir, self._listeners):
                await self._stop.wait()
            await self._drain()
        await watch
        self._remove_files()
        if reason:
            self._announce(Announcement(ready=False, record=self._record, reason=reason))
            return ExitCode.UNAVAILABLE
        return ExitCode.SOFTWARE if self._broken else ExitCode.OK

    async def _watch(self) -> None:
        """End the service when a part has no keeper any more: nothing would start it again."""
        why = await first_finished(self._parts)
        if not self._stop.is_set() and not self._killed:
            self._broken = why
            _log.critical("%s: the service ends", why)
            self._stop.set()

    def _remove_files(self) -> None:
        if self._rewrite is not None:
            self._rewrite.cancel()
        # The connection file is the broker's task, if it could.
        for path in (self._file, self._settings.connection_file):
            try:
                path.unlink(missing_ok=True)
            except OSError as exc:
                _log.warning("%s stays behind: %s", path, exc.strerror or exc)

    def _signalled(self) -> None:
        """The first signal drains, the second ends everything at once."""
        if self._stop.is_set():
            _log.warning("told to stop a second time: every part is killed")
            for part in self._parts:
                part.kill()
        self._stop.set()

    async def _started(self) -> str:
        """Wait until a worker can take jobs; return why not, or nothing."""
        ready = asyncio.create_task(self._ready())
        deaths = [asyncio.create_task(part.died.wait()) for part in self._parts]
        told = asyncio.create_task(self._stop.wait())
        tasks = [ready, told, *deaths]
        await asyncio.wait(tasks, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        if ready.done() or told.done():
            return ""
        dead = [part.name for part in self._parts if part.died.is_set()]
        if dead:
            return f"the {' and the '.join(dead)} ended during the start"
        return f"no worker was ready within {START_TIMEOUT_S:.0f} s"

    async def _ready(self) -> None:
        while await http_status(self._record.probe_url, "/readyz") != 200:  # noqa: ASYNC110 (HTTP has no event to wait for)
            await asyncio.sleep(_READY_POLL_S)

    async def _drain(self) -> None:
        """Gateways first: they answer who waits. Then workers: their reports need the broker."""
        # Nobody new is left waiting in the backlog, unless a restart has taken the sockets over.
        self._listeners.close()
        settings = self._settings
        for name, grace_s in (
            ("gateway", settings.answer_timeout_s + MARGIN_S),
            ("worker", settings.drain_timeout_s + MARGIN_S),
            ("broker", BROKER_GRACE_S),
        ):
            self._phase(f"stopping: waiting for the {name}")
            _log.info("stopping the %s", name)
            parts = [part for part in self._parts if part.name == name]
            await asyncio.gather(*(part.stop(grace_s) for part in parts))

    async def _kill(self) -> None:
        self._killed = True
        for part in self._parts:
            part.kill()
        await asyncio.gather(*(part.stop(MARGIN_S) for part in self._parts))

    def _phase(self, phase: str) -> None:
        self._record = replace(self._record, phase=phase)
        self._write()

    def _write(self) -> None:
        pids: dict[str, list[int]] = {}
        for part in self._parts:
            pids.setdefault(part.name, []).extend([part.pid] if part.pid else [])
        restarts = sum(part.restarts for part in self._parts)
        self._record = replace(self._record, parts=pids, restarts=restarts)
        if self._rewrite is not None:
            self._rewrite.cancel()
            self._rewrite = None
        try:
            self._record.write(self._file)
        except OSError as exc:
            # `status` shows what was; keeping the parts alive matters more.
            _log.error("%s is out of date: %s", self._file, exc)
            loop = asyncio.get_running_loop()
            self._rewrite = loop.call_later(RECORD_RETRY_S, self._write)


def _parts(
    settings: Settings,
    sockets: Sockets,
    log_file: Path | None,
    changed: Callable[[], None],
) -> list[Part]:
    """The parts in the order of their start; each waits for the one it needs."""
    words = to_flags(settings, state=settings.state_dir)
    if log_file is not None:
        words.append(f"--log-file={log_file}")
    listen_fd, probe_fd = (each.fileno() for each in sockets)
    gateway_words = [
        *to_flags(settings, state=settings.state_dir, gateway_processes=1),
        *words[len(words) - (log_file is not None) :],
        f"--listen-fd={listen_fd}",
        f"--probe-fd={probe_fd}",
    ]
    return [
        Part("broker", words, changed=changed),
        *(
            Part("gateway", gateway_words, changed=changed, pass_fds=(listen_fd, probe_fd))
            for _ in range(settings.gateway_processes)
        ),
        Part("worker", words, changed=changed),
    ]

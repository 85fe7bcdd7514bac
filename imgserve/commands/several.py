"""`imgserve worker --count N`: several workers on a large host, kept alive by one command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.flags import to_flags
from imgserve.commands.part import Part, first_finished
from imgserve.commands.supervisor import MARGIN_S
from imgserve.config import Settings
from imgserve.worker.capacity import PROCESSES_LIMIT, available_cpus, read_cpus
from imgserve.worker.liveness import Systemd

FINAL_CODES: Final = frozenset(
    {ExitCode.NO_BROKER, ExitCode.NO_FONTS, ExitCode.CANNOT_CREATE, ExitCode.TURNED_AWAY}
)
"""Ends that the next worker here would come to as well."""

WATCH_S: Final = 0.5
_log = logging.getLogger(__name__)


def how_many(settings: Settings) -> int:
    """Return the number of workers that the settings ask for on this host."""
    if settings.count != "auto":
        return settings.count
    return math.ceil(available_cpus(read_cpus(environment=os.environ)) / PROCESSES_LIMIT)


async def serve(settings: Settings, count: int, *, stop: asyncio.Event) -> int:
    """Keep so many workers alive until stop is set or none of them can go on.

    Returns: OK, or the first exit code that the next worker would have had, too.
    """
    files = _liveness_files(settings, count)
    parts = [
        Part("worker", _words(settings, count, file), changed=lambda: None, final=FINAL_CODES)
        for file in files
    ]
    systemd = Systemd(os.environ.get("NOTIFY_SOCKET", ""))
    for part in parts:
        part.start()
    broken = asyncio.create_task(first_finished(parts))
    systemd.ready()
    ends_s = _end_of_life_s(settings)
    while not stop.is_set() and time.monotonic() < ends_s:
        code = next((part.final_code for part in parts if part.final_code is not None), None)
        if code is None and broken.done():
            _log.critical("%s: the command ends", broken.result())
            code = ExitCode.SOFTWARE
        if code is not None:
            break
        systemd.alive()
        _touch(settings.liveness_file, files)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), WATCH_S)
    else:
        code = ExitCode.OK
    await asyncio.gather(*(part.stop(settings.drain_timeout_s + MARGIN_S) for part in parts))
    await broken
    if settings.liveness_file is not None:
        with contextlib.suppress(OSError):  # a file that grows old tells the same
            settings.liveness_file.unlink(missing_ok=True)
    return code


def _words(settings: Settings, count: int, file: Path | None) -> list[str]:
    """The command line of one of them; the lifetime is the command's, not that of one of them."""
    processes = settings.processes
    if processes == "auto":
        cpus = available_cpus(read_cpus(environment=os.environ))
        processes = max(1, min(PROCESSES_LIMIT, cpus // count))
    return to_flags(settings, count=1, processes=processes, lifetime_s=None, liveness_file=file)


def _end_of_life_s(settings: Settings) -> float:
    if settings.lifetime_s is None:
        return math.inf
    early_s = random.random() * min(settings.stagger_s, settings.lifetime_s / 2)  # noqa: S311
    return time.monotonic() + settings.lifetime_s - early_s


def _liveness_files(settings: Settings, count: int) -> list[Path | None]:
    path = settings.liveness_file
    return [path and path.with_name(f"{path.name}.{number}") for number in range(count)]


def _touch(path: Path | None, files: Sequence[Path | None]) -> None:
    """The command lives while each of its workers does."""
    if path is None:
        return
    try:
        oldest_s = min(file.stat().st_mtime for file in files if file is not None)
        path.touch()
        os.utime(path, (oldest_s, oldest_s))
    except OSError:
        return  # one is only starting; the file grows older meanwhile

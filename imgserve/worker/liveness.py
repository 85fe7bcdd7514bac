"""Signs of life, for whoever started the worker: a file to look at, and systemd's own protocol."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from pathlib import Path
from typing import Final

from imgserve.errors import ConfigError
from imgserve.worker.seldom import Seldom

log = logging.getLogger(__name__)


WATCHDOG_EVERY_S: Final = 5.0


class Systemd:
    """Tells systemd that the worker is ready and that its loop goes round (sd_notify(3)).

    Args:
        address: `NOTIFY_SOCKET` of the environment; empty: not started by systemd.
    """

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._due_s = 0.0

    def ready(self) -> None:
        """The worker can take jobs as soon as a broker is there."""
        self._say("READY=1")

    def alive(self) -> None:
        """The loop goes round; said every few seconds at most."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + WATCHDOG_EVERY_S
            self._say("WATCHDOG=1")

    def leaving(self, reason: str) -> None:
        """The worker drains."""
        self._say(f"STOPPING=1\nSTATUS={reason}")

    def _say(self, state: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(state.encode(), self._address)


class Liveness:
    """Touches a file, only ever from the event loop: a loop that hangs lets it grow old.

    Args:
        path: the file, whose time is that of the beat that the broker acknowledged last; None:
            nobody asks.
        systemd: where it started the worker.

    Raises: ConfigError when it cannot be written.
    """

    def __init__(self, path: Path | None, systemd: Systemd) -> None:
        self._path = path
        self.systemd = systemd
        self._renewed_s = 0.0
        self._complaints = Seldom(60.0)
        if path is not None:
            try:
                path.touch(mode=0o644)
                os.utime(path, (0, 0))  # being there is no sign of life
            except OSError as exc:
                raise ConfigError(
                    f"liveness_file = {str(path)!r}: {exc.strerror}; name a file in a folder that "
                    "exists and has room"
                ) from exc

    def renewed(self, until_s: float) -> None:
        """Take note of the lease's end; only one that has moved is a sign of life."""
        if self._path is None or until_s <= self._renewed_s:
            return
        self._renewed_s = until_s
        try:
            os.utime(self._path)
        except OSError as exc:
            if self._complaints.due():
                log.warning("the liveness file %s cannot be touched: %s", self._path, exc.strerror)

    def close(self) -> None:
        """Take the file away: a worker that has ended is not alive."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

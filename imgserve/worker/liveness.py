"""The liveness file: its time says when the broker last acknowledged a beat of this worker."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from imgserve.errors import ConfigError
from imgserve.worker.seldom import Seldom

log = logging.getLogger(__name__)


class Liveness:
    """Touches a file, only ever from the event loop: a loop that hangs lets it grow old.

    Args:
        path: the file; None: nobody asks.

    Raises: ConfigError when it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._renewed_s = 0.0
        self._complaints = Seldom(60.0)
        if path is not None:
            try:
                path.touch(mode=0o644)
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

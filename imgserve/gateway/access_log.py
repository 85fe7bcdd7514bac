"""How much of the log strangers may fill: what made no job has a budget of lines."""

from __future__ import annotations

import logging
import time
from typing import Final

from imgserve.gateway.rate import Bucket

LINES_S: Final = 5.0
LINES_BURST: Final = 200
"""About 40 MB a day at most; the first of a burst show what it is."""

log = logging.getLogger(__name__)


class LineBudget(logging.Filter):
    """Counts what it does not let through, and says so once there is room again.

    As a filter it bounds what Tornado itself logs of malformed requests.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bucket = Bucket(LINES_S, LINES_BURST)
        self._left_out = 0

    def spend(self) -> bool:
        """Take a line; False when there is none left now."""
        if self._bucket.take(time.monotonic()):
            self._left_out += 1
            return False
        if self._left_out:
            log.warning("%d lines were left out: requests without a job come too fast",
                        self._left_out)  # fmt: skip
            self._left_out = 0
        return True

    def filter(self, record: logging.LogRecord) -> bool:
        """Let errors through, and of the rest what the budget has lines for."""
        return record.levelno >= logging.ERROR or self.spend()

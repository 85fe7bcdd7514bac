"""What a process of the pool says on its stderr, brought into the worker's log line by line.

A pipe, for the limit that forbids a pixel process to write files would stop a log file as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

log = logging.getLogger(__name__)

# An image can make a library say something for each of its rows.
LINES_LIMIT = 40
LINE_LIMIT_CHARS = 500
READ_BYTES = 16 * 1024


class Words:
    """The reading end of one process's stderr."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.last = ""
        self._loop = asyncio.get_running_loop()
        self._lines = 0
        self._rest = b""
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self._loop.add_reader(self._reader, self._read)
        self._open = True

    def close_writer(self) -> None:
        """Let go of the end that the process has by now."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close(self) -> None:
        """Read what is there, and end."""
        self.close_writer()
        while self._open and self._read():
            pass
        self._end()

    def _read(self) -> bool:
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._end()
            return False
        *lines, rest = (self._rest + data).split(b"\n")
        # The rest of a line that is too long is only counted as more of it.
        self._rest = rest[:LINE_LIMIT_CHARS]
        for line in lines:
            self._say(line)
        return True

    def _say(self, line: bytes) -> None:
        text = line[:LINE_LIMIT_CHARS].decode("utf-8", "replace").strip()
        if not text:
            return
        # What came from an image must not write lines or colours of its own into the log.
        self.last = "".join(char if char.isprintable() else "?" for char in text)
        self._lines += 1
        if self._lines <= LINES_LIMIT:
            log.warning("%s says: %s", self.who, self.last)
        elif self._lines == LINES_LIMIT + 1:
            log.warning("%s says more than %d lines; the rest is left out", self.who, LINES_LIMIT)

    def _end(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._reader)
        with contextlib.suppress(OSError):
            os.close(self._reader)
        rest, self._rest = self._rest, b""
        self._say(rest)

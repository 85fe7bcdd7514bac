"""Logging, configured here alone: to stderr, or to a file that may be rotated by renaming."""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from pathlib import Path


class _LogFile(logging.handlers.WatchedFileHandler):
    """Loses a line rather than end whoever logs.

    The standard handler opens a renamed file again outside of its own error handling, so a full
    disk or a lack of descriptors would raise in the middle of any task.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if that is possible now."""
        try:
            super().emit(record)
        except (OSError, ValueError):  # ValueError: the stream was closed by an earlier attempt
            if self.stream is not None and self.stream.closed:
                self.stream = None  # the next line opens the file again
            self.handleError(record)


def configure(part: str, log_file: Path | None = None) -> None:
    """Send this process's log to stderr, or to a file.

    Every part appends to the one file on its own: a line is one write, and a WatchedFileHandler
    opens the file again after logrotate has renamed it.

    Args:
        part: the name in every line.
        log_file: None for stderr.
    """
    handler: logging.Handler = (
        logging.StreamHandler(sys.stderr)
        if log_file is None
        else _LogFile(log_file, encoding="utf-8")
    )
    formatter = logging.Formatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)s {part}[%(process)d] %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    formatter.converter = time.gmtime
    # No line says in which function or thread it was written; finding out costs a walk up the
    # stack (logging's HOWTO, "Optimization").
    logging._srcfile = None  # noqa: SLF001
    logging.logThreads = logging.logMultiprocessing = False
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def last_lines(log_file: Path, since_byte: int, count: int = 8) -> list[str]:
    """Return the last lines that a log got after a position, for an error message."""
    try:
        with log_file.open("rb") as file:
            file.seek(since_byte)
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()[-count:]

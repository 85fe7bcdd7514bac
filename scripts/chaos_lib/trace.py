"""Lines of JSON that several processes append to one file, all by the same monotonic clock."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Trace:
    """Appends one line at a time; short lines of several processes never mix (O_APPEND)."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: str, **fields: Any) -> None:
        """Append a line with the time, what it is about, and its fields."""
        line = json.dumps({"t": round(time.monotonic(), 4), "what": what, **fields})
        os.write(self._file, line.encode() + b"\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a trace; a process that was killed may have left its last one torn."""
    if not path.exists():
        return
    with path.open() as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue

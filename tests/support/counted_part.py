"""Run one part of the service and count what it does, wherever it runs and how fast.

usage: python -m tests.support.counted_part FOLDER PART [FLAG …]

After every SIGUSR1 it writes FOLDER/<n>.json, n from 1: what it has done so far.
"""

from __future__ import annotations

import cProfile
import gc
import itertools
import json
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any, Final

import zmq

from imgserve.cli import main

CALLS: Final = "function calls"
COMMITS: Final = "journal commits"
MESSAGES: Final = "messages"
READS_AND_WRITES: Final = "reads and writes"
BLOCKS: Final = "allocated blocks"
GARBAGE: Final = "objects left to the garbage collector"


class Counts:
    """What is counted in this process.

    Args:
        folder: where to tell it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._seen: Counter[str] = Counter()
        self._profile = cProfile.Profile()

    def begin(self) -> None:
        """Count from now on: calls in this thread, messages and commits in all."""
        sqlite3.connect = self._tracing(sqlite3.connect)
        # send_multipart and recv_multipart call these for each frame; imgserve's messages have one.
        for name in ("send", "recv"):
            setattr(zmq.Socket, name, self._counting(getattr(zmq.Socket, name)))
        signal.signal(signal.SIGUSR1, lambda *_: self._tell())
        gc.callbacks.append(self._collected)
        self._profile.enable()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            self._seen[GARBAGE] += info["collected"]

    def _tracing(self, connect: Callable[..., sqlite3.Connection]) -> Any:
        def connect_and_trace(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*args, **options)
            connection.set_trace_callback(self._trace)
            return connection

        return connect_and_trace

    def _trace(self, statement: str) -> None:
        self._seen[COMMITS] += statement == "COMMIT"

    def _counting(self, carry: Callable[..., Any]) -> Any:
        def carry_and_count(*args: Any, **options: Any) -> Any:
            frame = carry(*args, **options)  # what finds nothing raises zmq.Again
            self._seen[MESSAGES] += 1
            return frame

        return carry_and_count

    def _tell(self) -> None:
        self._profile.disable()
        gc.collect()
        calls = {
            _name(entry.code): entry.callcount
            for entry in self._profile.getstats()
            if __file__ not in _name(entry.code)
        }
        counts = {
            CALLS: sum(calls.values()),
            COMMITS: self._seen[COMMITS],
            MESSAGES: self._seen[MESSAGES],
            READS_AND_WRITES: _reads_and_writes(),
            BLOCKS: sys.getallocatedblocks(),
            GARBAGE: self._seen[GARBAGE],
        }
        path = self._folder / f"{next(self._numbers)}.json"
        document = {"time_s": time.monotonic(), "counts": counts, "calls": calls}
        path.with_suffix(".part").write_text(json.dumps(document))
        path.with_suffix(".part").rename(path)
        self._profile.enable()


def _reads_and_writes() -> int:
    """System calls of files and of the descriptors that wake threads; sockets have their own."""
    figures = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(figures["syscr"]) + int(figures["syscw"])


def _name(code: CodeType | str) -> str:
    if isinstance(code, str):
        return code
    return f"{code.co_filename}:{code.co_firstlineno} {code.co_name}"


if __name__ == "__main__":
    counts = Counts(Path(sys.argv[1]))
    counts.begin()
    sys.exit(main(sys.argv[2:]))

"""One part of imgserve with a crash point and a trace put around it: a process of its own.

usage: python -m scripts.chaos_lib.part TRACE POINT NTH PART FLAGS…     (POINT `-`: none)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from imgserve import cli
from scripts.chaos_lib.crash_points import install, surround
from scripts.chaos_lib.trace import Trace


def main(words: list[str]) -> int:
    """Install what was asked for, then be the part."""
    path, point, nth, part, *flags = words
    trace = Trace(Path(path))
    if part == "broker":
        _trace_broker(trace)
    elif part == "worker":
        _trace_worker(trace)
    if point != "-":
        install(point, int(nth), lambda: trace.write("crash", point=point, pid=os.getpid()))
    return cli.main([part, *flags])


def _trace_broker(trace: Trace) -> None:
    """Who joins, and which attempt goes to whom: what redelivery is measured by."""
    from imgserve.broker.server import Server  # noqa: PLC0415 (a part loads its own code only)

    def joined(_server: Any, hello: Any) -> None:
        trace.write("join", incarnation=hello.incarnation, pid=hello.pid)

    def sent(_server: Any, action: Any) -> None:
        if type(action.message).__name__ == "Job":
            job = action.message
            trace.write(
                "dispatch",
                job=job.job_id,
                attempt=job.attempt,
                incarnation=action.incarnation,
                accepted=job.accepted,
                verdict=job.verdict,
            )

    surround(Server, "_open_lane", after=joined)
    surround(Server, "_send", before=sent)


def _trace_worker(trace: Trace) -> None:
    from imgserve.worker.transfers import Transfers  # noqa: PLC0415

    def begins(_transfers: Any, destination: Any, body: bytes) -> None:
        trace.write("upload begins", url=destination.url, size=len(body), pid=os.getpid())

    def ended(_transfers: Any, destination: Any, body: bytes) -> None:
        trace.write("upload ended", url=destination.url, size=len(body), pid=os.getpid())

    surround(Transfers, "upload", before=begins, after=ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

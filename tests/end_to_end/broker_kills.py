"""Kills the broker of a real service again and again under load, and tells what that costs.

Usage: python -m tests.end_to_end.broker_kills [SECONDS]
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgserve.client import Client
from tests.support import images
from tests.support.http_server import HttpServer
from tests.support.service import Service

KILL_EVERY_S = 4.0


def main(seconds: float) -> int:
    """Return 0 when every job ended done, once, and every kill was followed by progress."""
    ended: list[float] = []
    kills: list[float] = []
    outcomes: Counter[str] = Counter()
    over = threading.Event()
    with (
        tempfile.TemporaryDirectory() as folder,
        HttpServer() as web,
        Service(Path(folder), "--processes", "2") as service,
        Client(service.connection) as client,
    ):
        web.files["/a.jpg"] = images.jpeg(800, 600)

        def kill_forever() -> None:
            while not over.wait(KILL_EVERY_S):
                service.note_processes()
                for pid in service.record["parts"].get("broker", [])[:1]:  # none is between lives
                    os.kill(pid, signal.SIGKILL)
                    kills.append(time.monotonic())

        killer = threading.Thread(target=kill_forever)
        killer.start()
        end_s = time.monotonic() + seconds
        for outcome in client.map(_requests(web, end_s), window=100):
            ended.append(time.monotonic())
            outcomes[str(outcome.state)] += 1
        over.set()
        killer.join()
    pauses = sorted(min((s for s in ended if s > at), default=at) - at for at in kills)
    print(f"{len(kills)} kills; jobs {dict(outcomes)}")
    print(f"from a kill to the next job's end: {[round(pause, 2) for pause in pauses]} s")
    print(f"destinations written: {len(web.stored)}")
    return 0 if set(outcomes) == {"done"} and len(web.stored) == outcomes["done"] else 1


def _requests(web: HttpServer, end_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    while time.monotonic() < end_s:
        number += 1
        yield (
            f"kills-{number}",
            {
                "operationType": "resize",
                "srcURL": web.url("/a.jpg"),
                "dstURL": web.url(f"/{number}.jpg"),
                "args": {"width": 120, "height": 80, "method": "PUT"},
            },
        )


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))

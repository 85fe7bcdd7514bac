"""A broker and a store on loopback, for tests of what launches workers."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from imgserve.client import Client
from tests.cluster.cluster import ROOT, Batch, Uploads, imgserve
from tests.support import far_store
from tests.support.service import eventually

JOIN_S = 60.0


class LocalBroker:
    """A broker with its state in a folder, ports of its own, and a short lease."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.state = folder / "broker"
        self.state.mkdir(exist_ok=True)
        self.connection = self.state / "connection.json"
        words = ("broker", "--state", str(self.state), "--broker-port", "0", "--lease-s", "3")
        self._log = folder / "broker.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*imgserve(*words), *flags], stderr=log, cwd=ROOT)
        eventually(self.connection.exists, "the broker's connection file", timeout_s=JOIN_S)

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text()

    def figures(self) -> dict[str, Any]:
        """Ask it for its figures."""
        with Client(self.connection) as client:
            return dict(client.stats(timeout_s=10))

    def workers(self) -> list[dict[str, Any]]:
        """The workers that are connected."""
        return [dict(each) for each in self.figures()["workers"]]

    def wait_for_workers(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many workers are connected."""
        eventually(lambda: len(self.workers()) == count, f"{count} workers", timeout_s=JOIN_S)
        return self.workers()

    def submit(self, uploads: Uploads, name: str, count: int, wait_s: float) -> Batch:
        """Begin a batch of jobs."""
        words = imgserve("submit", "-", "--connection", str(self.connection))
        return Batch(words, uploads, name, count, wait_s)


@contextmanager
def local_broker(folder: Path, *flags: str) -> Iterator[LocalBroker]:
    """Run a broker for the length of a block."""
    broker = LocalBroker(folder, *flags)
    try:
        yield broker
    finally:
        broker.process.terminate()
        broker.process.wait(30)


@contextmanager
def local_store(folder: Path) -> Iterator[Uploads]:
    """Run a store in a thread for the length of a block."""
    puts = folder / "puts"
    puts.mkdir()
    out = io.BytesIO()
    Image.new("RGB", far_store.SIZE_PX, (255, 0, 0)).save(out, "jpeg")
    kind = type("Handler", (far_store.Handler,), {"picture": out.getvalue(), "folder": puts})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, name="store")
    thread.start()
    try:
        yield Uploads(f"http://127.0.0.1:{server.server_port}", puts)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def wrapper(folder: Path) -> Path:
    """Write an `imgserve` command that works from any folder and environment."""
    path = folder / "imgserve"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m imgserve "$@"\n')
    path.chmod(0o755)
    return path

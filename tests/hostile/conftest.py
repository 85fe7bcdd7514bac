"""One service for the whole suite, watched.

No worker dies, memory stays bounded, nothing denied is touched, and a plain job right after each
case succeeds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import psutil
import pytest

from tests.support import images
from tests.support.hostile_servers import Trap
from tests.support.http_server import HttpServer
from tests.support.service import Service

# The one address that jobs may reach: every other of loopback stays denied.
OPEN_HOST = "127.0.0.2"
FETCH_S, PIXELS_S = 3, 2.5
ANSWER_S = 30.0
MEMORY_BYTES = 1_500_000_000
FLAGS = (
    *("--processes", "2", "--retry-limit", "0", "--crash-limit", "1"),
    *("--connect-timeout-s", "2", "--fetch-timeout-s", str(FETCH_S), "--upload-timeout-s", "3"),
    *("--low-speed-time-s", "1", "--pixel-timeout-s", str(PIXELS_S)),
    "--require-sandbox",
)


class Memory:
    """Watches what a worker and its pixel processes hold together."""

    def __init__(self, worker_pid: int) -> None:
        self.peak_bytes = 0
        self._worker = psutil.Process(worker_pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.peak_bytes = max(self.peak_bytes, self._now())

    def _now(self) -> int:
        total = 0
        # A pixel process was just replaced; or a test of this run has taken all descriptors.
        with contextlib.suppress(psutil.Error, OSError):
            for process in (self._worker, *self._worker.children()):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
        return total


@dataclass(frozen=True, slots=True)
class Hostile:
    """What a case works with."""

    service: Service
    web: HttpServer
    trap: Trap

    def ask(self, src_url: str, dst_url: str = "", **args: Any) -> dict[str, Any]:
        """Make a request; the destination is a PUT to a good server unless one is given."""
        svg = src_url.partition("?")[0].endswith(".svg")
        ext = "png" if svg else src_url.partition("?")[0].rpartition(".")[2]
        size = {"width": 20, "height": 10}
        return {
            "operationType": "rasterize" if svg else "resize",
            "srcURL": src_url,
            "dstURL": dst_url or self.web.url(f"/up.{ext}"),
            "args": size | (args or {"method": "PUT"}),
        }

    def end(self, request: dict[str, Any]) -> dict[str, Any]:
        """Submit a request and return how it ended, in time."""
        began_s = time.monotonic()
        answer = self.service.post(request, "/jobs")
        if answer.status == 202:
            document = self.service.ended(answer.document["links"]["self"], timeout_s=ANSWER_S)
        else:
            document = {"state": "refused", "code": answer.document["code"], "detail": ""}
        assert time.monotonic() - began_s < ANSWER_S
        return document

    def source(self, url: str) -> dict[str, Any]:
        """Submit a job with this source and a good destination."""
        return self.end(self.ask(url))

    def picture(self, name: str, data: bytes, **args: Any) -> dict[str, Any]:
        """Submit a job with these bytes as its source."""
        self.web.files[f"/{name}"] = data
        return self.end(self.ask(self.web.url(f"/{name}"), **({"method": "PUT"} | args)))

    def assert_plain_job(self) -> None:
        """Check that an ordinary job is done, and quickly."""
        document = self.picture("plain.png", images.png())
        assert document["state"] == "done", document

    def assert_untouched(self) -> None:
        """Check that nothing but the one open address was connected to."""
        touched = list(self.trap.touched)
        self.trap.touched.clear()  # each case answers for its own
        denied = [address for address in touched if address != OPEN_HOST]
        assert not denied, denied


def workers(service: Service) -> list[tuple[int, str]]:
    """The pids and incarnations of the workers there are."""
    return [(worker["pid"], worker["incarnation"]) for worker in service.stats()["workers"]]


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    folder = tmp_path_factory.mktemp("hostile")
    with (
        Service(folder, *FLAGS, network=f"{OPEN_HOST}/32") as service,
        HttpServer(host=OPEN_HOST) as web,
        Trap() as trap,
    ):
        before = workers(service)
        assert len(before) == 1
        with Memory(before[0][0]) as memory:
            yield Hostile(service, web, trap)
        peak = f"worker and pixel processes peaked at {memory.peak_bytes:,} bytes"
        print(f"\nhostile suite: {peak}")  # noqa: T201 (a figure to publish: pytest -s)
        assert memory.peak_bytes < MEMORY_BYTES
        assert workers(service) == before
        assert service.record["restarts"] == 0
        assert "unexpected error" not in service.log_file.read_text()


@pytest.fixture
def hostile(watched: Hostile) -> Iterator[Hostile]:
    """Every case ends with a plain job that succeeds."""
    yield watched
    watched.assert_plain_job()
    watched.assert_untouched()

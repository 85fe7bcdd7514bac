"""Workers that come, go and lose a pixel process, in a service that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.http_server import HttpServer, Reply
from tests.support.service import Service, command, eventually

PHOTO = images.jpeg(400, 300)
# Noise in so many layers that it takes more than a second: 270 ms for 8,000 of them.
SLOW_SVG = images.svg(
    '<filter id="n"><feTurbulence baseFrequency="0.4" numOctaves="40000"/></filter>'
    '<rect x="10" width="20" height="20" filter="url(#n)"/>',
    'viewBox="0 0 120 80"',
)


def asked(web: HttpServer, name: str, number: int, source: str) -> dict[str, Any]:
    """A request with a destination of its own."""
    ext = "png" if source.endswith(".svg") else "jpg"
    return {
        "operationType": "rasterize" if ext == "png" else "resize",
        "srcURL": web.url(source),
        "dstURL": web.url(f"/{name}/{number}.{ext}"),
        "args": {"width": 120, "height": 80, "method": "PUT"},
    }


class SecondWorker:
    """`imgserve worker --connection …`, as an operator starts it by hand."""

    SLOTS = 4

    def __init__(self, service: Service, log_file: Path) -> None:
        words = ("worker", "--connection", str(service.connection), "--processes", "1")
        words += ("--slots", str(self.SLOTS), "--allow-network", "127.0.0.0/8")
        self.log_file = log_file
        with log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def row(self, service: Service) -> dict[str, Any] | None:
        """Its row in the broker's figures, once it has joined."""
        for row in service.stats()["workers"]:
            if row["pid"] == self.process.pid:
                return dict(row)
        return None


@pytest.fixture
def second(service: Service, tmp_path: Path) -> Iterator[SecondWorker]:
    """A second worker that has joined; it is gone when the test has ended."""
    worker = SecondWorker(service, tmp_path / "second.log")
    try:
        eventually(lambda: worker.row(service), "the second worker joins", timeout_s=60)
        service.note_processes()
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()
        eventually(lambda: len(service.stats()["workers"]) == 1, "the second worker is gone")


def test_second_worker_shares_the_work_and_drains(
    service: Service, web: HttpServer, name: str, second: SecondWorker
):
    """Both workers hold jobs of one batch; the one that is told to end finishes or returns its."""
    gate = threading.Event()
    web.script[f"/{name}/photo.jpg"] = [Reply(body=PHOTO, gate=gate, gate_at=5000)]
    slots = sum(row["slots"] for row in service.stats()["workers"])
    locations = []
    for number in range(slots + 10):
        answer = service.post(asked(web, name, number, f"/{name}/photo.jpg"), "/jobs")
        locations.append(answer.document["links"]["self"])

    def all_busy() -> bool:
        rows = service.stats()["workers"]
        return len(rows) == 2 and all(row["busy"] == row["slots"] for row in rows)

    def begun() -> bool:
        return [service.job(each)["state"] for each in locations].count("accepted") == slots

    eventually(all_busy, "both workers hold as many jobs as they have slots")
    eventually(begun, "every job that is held has its placeholder")
    held = [each for each in locations if service.job(each)["state"] == "accepted"]
    second.process.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in second.log_file.read_text(), "the second worker drains")
    gate.set()
    assert second.process.wait(30) == 0, second.log_file.read_text()
    for location in locations:
        document = service.ended(location)
        assert document["state"] == "done", document
        assert document["attempts"] == 1 or location not in held, document
    done_by_second = second.log_file.read_text().count(" done in ")
    assert done_by_second >= second.SLOTS


def test_worker_that_drains_returns_what_it_has_not_begun(
    service: Service, web: HttpServer, name: str, second: SecondWorker
):
    """Jobs whose sources say nothing go to the other worker."""
    gate = threading.Event()
    web.script[f"/{name}/photo.jpg"] = [Reply(body=PHOTO, gate=gate)]
    locations = []
    for number in range(sum(row["slots"] for row in service.stats()["workers"])):
        answer = service.post(asked(web, name, number, f"/{name}/photo.jpg"), "/jobs")
        locations.append(answer.document["links"]["self"])
    eventually(lambda: service.stats()["credit"] == 0, "every slot is taken")
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(30) == 0, second.log_file.read_text()
    assert service.stats()["queue_length"] == second.SLOTS
    gate.set()
    for location in locations:
        document = service.ended(location)
        assert document["state"] == "done", document


def test_dead_pixel_process_fails_no_job(service: Service, web: HttpServer, name: str):
    """The job it held is done again and ends well; others do not notice."""
    web.files[f"/{name}/slow.svg"] = SLOW_SVG
    web.files[f"/{name}/photo.jpg"] = PHOTO
    slow = service.post(asked(web, name, 0, f"/{name}/slow.svg"))
    assert "dstURL" in slow.document
    victim = service.working_pixel_process()
    quick = [
        service.post(asked(web, name, number, f"/{name}/photo.jpg"), "/jobs")
        for number in range(1, 11)
    ]
    os.kill(victim, signal.SIGKILL)
    for answer in quick:
        document = service.ended(answer.document["links"]["self"])
        assert (document["state"], document["attempts"]) == ("done", 1), document
    document = service.ended(slow.headers["location"])
    assert (document["state"], document["attempts"]) == ("done", 2), document
    eventually(
        lambda: len(service.pixel_pids()) == 2 and victim not in service.pixel_pids(),
        "another process is in its place",
    )

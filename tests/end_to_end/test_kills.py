"""Parts that are killed in the middle of a batch: every job is done, and the part is back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imgserve.client import Client, Outcome
from tests.end_to_end.looks import form
from tests.support import images
from tests.support.http_server import HttpServer
from tests.support.service import Service, eventually

JOBS = 50
WINDOW = 20
KILL_AFTER = 10
BATCH_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that notices a death soon."""
    flags = ("--processes", "2", "--lease-s", "2", "--beat-s", "0.4")
    with Service(tmp_path_factory.mktemp("killed"), *flags) as service:
        yield service


def batch(web: HttpServer, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Requests with ids and destinations of their own."""
    web.files["/batch.jpg"] = images.jpeg(800, 600)
    return [
        (
            f"{name}-{number}",
            {
                "operationType": "resize",
                "srcURL": web.url("/batch.jpg"),
                "dstURL": web.url(f"/{name}/{number}.jpg"),
                "args": {"width": 120, "height": 80, "method": "PUT"},
            },
        )
        for number in range(JOBS)
    ]


@pytest.mark.parametrize("part", ["gateway", "worker", "broker"])
def test_killed_part_is_back_and_no_job_is_lost(
    service: Service, web: HttpServer, name: str, part: str
):
    """A batch of the native client is done to its last job, each with one terminal state."""
    before = service.record
    victim = before["parts"][part][0]
    outcomes: list[Outcome] = []

    def submit_all(client: Client) -> None:
        for outcome in client.map(batch(web, name), window=WINDOW):
            outcomes.append(outcome)
            if len(outcomes) == KILL_AFTER:
                service.note_processes()
                os.kill(victim, signal.SIGKILL)

    with ThreadPoolExecutor(1) as thread, Client(service.connection) as client:
        # Closing the client ends the thread, should it still wait.
        thread.submit(submit_all, client).result(BATCH_TIMEOUT_S)
    assert {outcome.id for outcome in outcomes} == {f"{name}-{number}" for number in range(JOBS)}
    assert len(outcomes) == JOBS
    assert {str(outcome.state) for outcome in outcomes} == {"done"}
    for number in range(JOBS):
        assert form(web.stored[f"/{name}/{number}.jpg"]) == ("JPEG", (120, 80))

    def is_back() -> bool:
        now = service.record
        pids = now["parts"].get(part, [])
        return bool(pids) and pids != [victim] and now["restarts"] == before["restarts"] + 1

    eventually(is_back, f"the {part} is started again")
    eventually(ready(service), "the service is ready", timeout_s=30)
    _, request = batch(web, f"{name}-after")[0]
    assert service.submit(request)["state"] == "done"


def test_a_killed_broker_does_not_wait_for_a_lease(tmp_path: Path, web: HttpServer, name: str):
    """Its workers come back and say that nothing runs: the lease is longer than this may take."""
    with Service(tmp_path, "--processes", "1", "--lease-s", "600", "--beat-s", "0.4") as service:

        def submit_all(client: Client) -> list[Outcome]:
            outcomes: list[Outcome] = []
            for outcome in client.map(batch(web, name), window=WINDOW):
                outcomes.append(outcome)
                if len(outcomes) == KILL_AFTER:
                    service.note_processes()
                    os.kill(service.record["parts"]["broker"][0], signal.SIGKILL)
            return outcomes

        with ThreadPoolExecutor(1) as thread, Client(service.connection) as client:
            outcomes = thread.submit(submit_all, client).result(BATCH_TIMEOUT_S)
    assert [str(outcome.state) for outcome in outcomes] == ["done"] * JOBS


def ready(service: Service) -> Callable[[], bool]:
    """Return a condition: a worker can be reached through the gateway."""

    def look() -> bool:
        try:
            return service.send("GET", "/readyz").status == 200
        except OSError:
            return False

    return look

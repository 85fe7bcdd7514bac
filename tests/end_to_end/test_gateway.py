"""The HTTP interface over the whole service, with two gateway processes and one slot for jobs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support import images
from tests.support.http_server import HttpServer, Reply
from tests.support.service import Service, eventually

PHOTO = images.jpeg(400, 300)
KEYS = {
    "id", "state", "dstURL", "code", "detail", "attempts", "seconds", "width", "height", "bytes",
    "warnings",
}  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two gateway processes that does one job after the other."""
    flags = ("--gateway-processes", "2", "--processes", "1", "--slots", "1", "--retry-limit", "0")
    with Service(tmp_path_factory.mktemp("gateways"), *flags) as service:
        yield service


def asked(web: HttpServer, name: str, source: str = "photo.jpg") -> dict[str, Any]:
    """A valid request."""
    web.files[f"/{name}/{source}"] = PHOTO
    return {
        "operationType": "resize",
        "srcURL": web.url(f"/{name}/{source}"),
        "dstURL": web.url(f"/{name}/up.jpg"),
        "args": {"width": 120, "height": 80, "method": "PUT"},
    }


class Occupied:
    """A job that holds the only slot until it is let go."""

    def __init__(self, service: Service, web: HttpServer, name: str) -> None:
        self.gate = threading.Event()
        request = asked(web, name, "held.jpg")
        web.script[f"/{name}/held.jpg"] = [Reply(body=PHOTO, gate=self.gate)]
        self.location = service.post(request, "/jobs").document["links"]["self"]
        eventually(lambda: service.job(self.location)["state"] == "dispatched", "the slot is taken")


@pytest.fixture
def occupied(service: Service, web: HttpServer, name: str) -> Iterator[Occupied]:
    """The service with its slot taken, until the test lets go or ends."""
    held = Occupied(service, web, name)
    yield held
    held.gate.set()
    service.ended(held.location)


def test_metrics_count_what_was_done(service: Service, web: HttpServer, name: str):
    """Three done, one rejected, one failed and one cancelled job are counted as such."""
    before = metrics(service)
    for _ in range(3):
        assert service.submit(asked(web, name))["state"] == "done"
    web.files[f"/{name}/small.jpg"] = b""
    too_small = asked(web, name) | {"args": {"width": 500, "height": 80, "method": "PUT"}}
    assert service.submit(too_small)["state"] == "rejected"
    broken = asked(web, name, "broken.jpg")
    web.files[f"/{name}/broken.jpg"] = PHOTO[:5000]
    assert service.submit(broken)["code"] == 401
    after = metrics(service)

    def grown(series: str) -> float:
        return after[series] - before.get(series, 0)

    total = {
        state: grown(f'imgserve_jobs_total{{state="{state}"}}')
        for state in ("queued", "done", "rejected", "failed", "cancelled")
    }
    assert total == {"queued": 5, "done": 3, "rejected": 1, "failed": 1, "cancelled": 0}
    for stage in ("fetch", "placeholder", "pixels", "upload", "total"):
        assert grown(f'imgserve_stage_seconds_count{{stage="{stage}"}}') == 3
        assert grown(f'imgserve_stage_seconds_sum{{stage="{stage}"}}') > 0
        bucket = f'imgserve_stage_seconds_bucket{{le="+Inf",stage="{stage}"}}'
        assert grown(bucket) == 3
    assert after["imgserve_queue_length"] == after["imgserve_in_flight"] == 0
    assert after["imgserve_credit"] == after["imgserve_workers"] == after["imgserve_broker_up"] == 1


def test_gauges_show_a_queue(service: Service, web: HttpServer, name: str, occupied: Occupied):
    """A job on the only slot is in flight, the next ones wait."""
    waiting = [service.post(asked(web, name), "/jobs") for _ in range(2)]
    figures = metrics(service)
    assert figures["imgserve_in_flight"] == 1
    assert figures["imgserve_credit"] == 0
    assert figures["imgserve_queue_length"] == 2
    occupied.gate.set()
    for answer in waiting:
        assert service.ended(answer.document["links"]["self"])["state"] == "done"


def metrics(service: Service) -> dict[str, float]:
    """Return the exposition as series -> value."""
    answer = service.send("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = (line for line in answer.body.decode().splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}


def test_job_has_exactly_its_keys(service: Service, web: HttpServer, name: str):
    """`GET /jobs/<id>` says the same keys whatever the state is, null for what is not known."""
    answer = service.post(asked(web, name), "/jobs")
    assert answer.status == 202
    assert answer.document.keys() == {"id", "state", "links"}
    location = answer.document["links"]["self"]
    assert answer.headers["location"] == location == f"/jobs/{answer.document['id']}"
    done = service.ended(location)
    assert done.keys() == KEYS
    assert (done["code"], done["detail"], done["attempts"]) == (None, None, 1)
    assert done["seconds"].keys() == {
        "fetch", "placeholder", "accepted", "pixels", "upload", "total",
    }  # fmt: skip
    assert done["seconds"]["total"] >= done["seconds"]["pixels"] > 0
    wrong = asked(web, name) | {"args": {"width": 500, "height": 80, "method": "PUT"}}
    rejected = service.submit(wrong)
    assert rejected.keys() == KEYS
    assert [rejected[key] for key in ("dstURL", "width", "height", "bytes")] == [None] * 4


def test_job_that_is_cancelled_or_over(
    service: Service, web: HttpServer, name: str, occupied: Occupied
):
    """A waiting job is cancelled at once and for good; one that has ended stays what it is."""
    location = service.post(asked(web, name), "/jobs").document["links"]["self"]
    first = service.send("DELETE", location)
    assert (first.status, first.document["state"]) == (202, "cancelled")
    again = service.send("DELETE", location)
    assert (again.status, again.document["state"]) == (200, "cancelled")
    occupied.gate.set()
    assert service.ended(occupied.location)["state"] == "done"
    late = service.send("DELETE", occupied.location)
    assert (late.status, late.document["state"]) == (409, "done")
    assert service.job(location)["state"] == "cancelled"
    assert service.send("DELETE", "/jobs/unknown").status == 404
    assert service.send("GET", "/jobs/unknown").status == 404
    assert f"/{name}/up.jpg" in web.stored  # the first job's; the cancelled one fetched nothing
    assert not [each for each in web.requests if each.path == f"/{name}/photo.jpg"]


def test_higher_priority_goes_first(
    service: Service, web: HttpServer, name: str, occupied: Occupied
):
    """Waiting jobs are done by Imgserve-Priority, equal ones in their order.

    A request that names none goes before those of 0, which batch jobs have.
    """
    order = ["0", "-5", "10", "0", None]
    locations = []
    for number, priority in enumerate(order):
        headers = {} if priority is None else {"Imgserve-Priority": priority}
        request = asked(web, name, f"{number}.jpg")
        answer = service.post(request, "/jobs", headers)
        locations.append(answer.document["links"]["self"])
    occupied.gate.set()
    for location in locations:
        assert service.ended(location)["state"] == "done"
    fetched = [
        int(each.path[-5]) for each in web.requests if re.fullmatch(rf"/{name}/\d\.jpg", each.path)
    ]
    assert fetched == [2, 4, 0, 3, 1]


@pytest.mark.parametrize("priority", ["101", "-101", "high", "", "1.5"])
def test_priority_out_of_range_is_115(service: Service, web: HttpServer, name: str, priority: str):
    """A header that is not allowed is refused like an argument."""
    answer = service.post(asked(web, name), headers={"Imgserve-Priority": priority})
    assert answer.document == {"msg": "request invalid", "code": 115}


def test_idempotency_key_makes_equal_requests_one_job(service: Service, web: HttpServer, name: str):
    """Same key and request: the same job, done once. Same key, other request: a conflict."""
    request, key = asked(web, name), {"Idempotency-Key": name[:60]}
    first = service.post(request, headers=key)
    assert first.headers["location"] == f"/jobs/{name[:60]}"
    assert service.ended(first.headers["location"])["state"] == "done"
    again = service.post(dict(reversed(request.items())), headers=key)
    assert (again.document, again.headers["location"]) == (
        first.document,
        first.headers["location"],
    )
    assert service.post(request, "/jobs", key).document["state"] == "done"
    other = request | {"args": {"width": 60, "height": 40, "method": "PUT"}}
    conflict = service.post(other, "/jobs", key)
    assert conflict.status == 409
    assert service.post(other, headers=key).document == {"msg": "request invalid", "code": 115}
    assert len([each for each in web.requests if each.path == f"/{name}/photo.jpg"]) == 1


def test_every_gateway_process_answers_for_every_job(service: Service, web: HttpServer, name: str):
    """Jobs posted to one process are known to the other; both take requests."""
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: service.post(asked(web, name)), range(40)))
        assert all(answer.status == 200 for answer in answers)
        locations = [answer.headers["location"] for answer in answers]
        for _ in range(2):
            documents = list(threads.map(service.ended, locations))
            assert all(document["state"] == "done" for document in documents)
    pids = service.record["parts"]["gateway"]
    assert len(pids) == 2
    log = service.log_file.read_text()
    for pid in pids:
        assert re.search(rf"gateway\[{pid}\].* POST /: 200", log)
        assert re.search(rf"gateway\[{pid}\].* GET /jobs/<id>: 200", log)


def test_probes_and_other_methods(service: Service):
    """The probes say that all is well; what is not in the interface is not found."""
    assert (service.send("GET", "/healthz").status, service.send("GET", "/readyz").status) == (
        200,
        200,
    )
    assert service.send("GET", "/").status == 404
    assert service.send("PUT", "/", b"{}").status == 404
    assert service.send("GET", "/favicon.ico").status == 404
    assert service.send("POST", "/healthz", b"").status == 405

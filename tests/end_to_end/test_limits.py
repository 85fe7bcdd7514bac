"""Limits and trouble of the service itself: codes 206, 207, 402, 405, 501 and 502."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from imgserve.client import Client
from imgserve.errors import RequestInvalid
from tests.end_to_end.ends import Ends
from tests.end_to_end.looks import is_placeholder
from tests.support import images
from tests.support.ftp_server import FtpServer
from tests.support.http_server import HttpServer, Reply
from tests.support.service import Service, eventually

SIZE = (120, 80)
LIMIT_BYTES = 60_000
LIMIT_PIXELS = 100_000
# Of results: fewer pixels than by default, longer sides.
RESULT_PIXELS, RESULT_SIDE_PX = 40_000, 25_000
PIXEL_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 4.0
CRASH_LIMIT = 2
# Noise in so many layers that it takes ten seconds or more.
SLOW_SVG = images.svg(
    '<filter id="n"><feTurbulence baseFrequency="0.4" numOctaves="100000"/></filter>'
    '<rect x="10" width="20" height="20" filter="url(#n)"/>',
    'viewBox="0 0 60 40"',
)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with little room and little patience."""
    flags = (
        *("--processes", "1", "--slots", "2", "--queue-limit", "4", "--retry-limit", "0"),
        *("--source-limit-bytes", str(LIMIT_BYTES), "--source-limit-pixels", str(LIMIT_PIXELS)),
        *("--pixel-timeout-s", str(PIXEL_TIMEOUT_S), "--answer-timeout-s", str(ANSWER_TIMEOUT_S)),
        *("--crash-limit", str(CRASH_LIMIT), "--result-limit-pixels", str(RESULT_PIXELS)),
        *("--result-limit-side-px", str(RESULT_SIDE_PX)),
    )
    with Service(tmp_path_factory.mktemp("strict"), *flags) as service:
        yield service


@pytest.fixture
def ends(strict: Service, web: HttpServer, ftp: FtpServer) -> Ends:
    """Every kind of source and destination, for the strict service."""
    return Ends(strict, web, ftp)


def asked(ends: Ends, name: str, src_url: str, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """A request for a result of this size, PUT to `/<name>/up.png`."""
    return {
        "operationType": "rasterize" if src_url.endswith(".svg") else "resize",
        "srcURL": src_url,
        "dstURL": ends.web.url(f"/{name}/up.png"),
        "args": {"width": size[0], "height": size[1], "method": "PUT"},
    }


def padded(size_bytes: int) -> bytes:
    """A PNG of so many bytes: what follows its end is ignored."""
    return images.png(240, 160).ljust(size_bytes, b"\0")


@pytest.mark.parametrize("kind", ["http", "ftp", "file"])
def test_source_of_too_many_bytes_is_206(ends: Ends, name: str, kind: str):
    """A source of exactly the limit passes, one byte more does not."""
    right = ends.source(kind, name, "right.png", padded(LIMIT_BYTES))
    over = ends.source(kind, name, "over.png", padded(LIMIT_BYTES + 1))
    assert ends.service.submit(asked(ends, name, right))["state"] == "done"
    answer = ends.service.post(asked(ends, name, over))
    assert answer.body == b'{"msg": "request invalid", "code": 206}'
    document = ends.service.job(answer.headers["location"])
    assert document["state"] == "rejected"
    assert f"the limit is {LIMIT_BYTES} bytes" in document["detail"]


def test_source_that_does_not_say_its_size_is_counted(ends: Ends, name: str):
    """A chunked body is broken off at the limit: 403, as its head was good."""
    path = f"/{name}/photo.png"
    body = padded(50 * LIMIT_BYTES)
    ends.web.script[path] = [Reply(headers={"Transfer-Encoding": "chunked"}, body=body)]
    document = ends.service.submit(asked(ends, name, ends.web.url(path)))
    assert document["code"] in (206, 403)
    assert f"the limit is {LIMIT_BYTES} bytes" in document["detail"]


def test_source_of_too_many_pixels_is_207(ends: Ends, name: str):
    """A source of exactly the limit passes, one column more does not."""
    right = ends.source("http", name, "right.png", images.png(400, 250, "1"))
    over = ends.source("http", name, "over.png", images.png(401, 250, "1"))
    assert ends.service.submit(asked(ends, name, right))["state"] == "done"
    answer = ends.service.post(asked(ends, name, over))
    assert answer.body == b'{"msg": "request invalid", "code": 207}'
    detail = ends.service.job(answer.headers["location"])["detail"]
    assert "401x250" in detail
    assert str(LIMIT_PIXELS) in detail


RESULTS = [
    ((RESULT_SIDE_PX, 1), ""),
    ((RESULT_SIDE_PX + 1, 1), f"1 to {RESULT_SIDE_PX} are allowed"),
    ((200, 200), ""),
    ((8, 5_001), f"at most {RESULT_PIXELS} are allowed"),
]


@pytest.mark.parametrize(("size", "refusal"), RESULTS)
def test_result_over_its_limits_is_115_at_the_gateway(
    ends: Ends, name: str, size: tuple[int, int], refusal: str
):
    """Limits that were raised can be used, and those that were lowered hold."""
    request = asked(ends, name, ends.source("http", name, "a.svg", images.svg()), size)
    if not refusal:
        assert ends.service.submit(request)["state"] == "done"
        assert images.decoded(ends.web.stored[f"/{name}/up.png"]).size == size
        return
    assert ends.service.post(request).body == b'{"msg": "request invalid", "code": 115}'
    answer = ends.service.post(request, "/jobs")
    assert (answer.status, answer.document["code"]) == (400, 115)
    assert refusal in answer.document["detail"]


@pytest.mark.parametrize(("size", "refusal"), RESULTS)
def test_result_over_its_limits_is_115_at_the_worker(
    ends: Ends, name: str, size: tuple[int, int], refusal: str
):
    """For native clients, who do not know what their service allows."""
    request = asked(ends, name, ends.source("http", name, "a.svg", images.svg()), size)
    with Client(ends.service.connection) as client:
        job = client.submit(request)
        if not refusal:
            assert job.result(timeout_s=30).size_bytes > 0
            return
        with pytest.raises(RequestInvalid, match=refusal) as caught:
            job.accepted(timeout_s=30)
    assert caught.value.code == 115
    assert f"/{name}/up.png" not in ends.web.stored


def test_image_that_takes_too_long_is_402(ends: Ends, name: str):
    """The job fails at its time limit, its destination says so, and the next job is done."""
    slow = ends.source("http", name, "slow.svg", SLOW_SVG)
    began_s = time.monotonic()
    document = ends.service.submit(asked(ends, name, slow))
    assert (document["state"], document["code"]) == ("failed", 402), document
    assert PIXEL_TIMEOUT_S <= time.monotonic() - began_s < 3 * PIXEL_TIMEOUT_S
    assert is_placeholder(ends.web.stored[f"/{name}/up.png"], "PNG", SIZE)
    quick = ends.source("http", name, "quick.svg", images.svg())
    assert ends.service.submit(asked(ends, name, quick))["state"] == "done"


def test_job_whose_process_dies_too_often_is_405(ends: Ends, name: str):
    """A job that loses its pixel process again and again is given up, with its reasons."""
    slow = ends.source("http", name, "slow.svg", SLOW_SVG)
    answer = ends.service.post(asked(ends, name, slow))
    assert "dstURL" in answer.document
    killed: set[int] = set()
    for _ in range(CRASH_LIMIT):
        pid = ends.service.working_pixel_process(killed)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    document = ends.service.ended(answer.headers["location"])
    assert (document["state"], document["code"]) == ("failed", 405), document
    assert is_placeholder(ends.web.stored[f"/{name}/up.png"], "PNG", SIZE)
    quick = ends.source("http", name, "quick.svg", images.svg())
    assert ends.service.submit(asked(ends, name, quick))["state"] == "done"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end of the test at the latest."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_no_answer_in_time_is_502(ends: Ends, name: str, gate: threading.Event):
    """One whose source says nothing is told to come back; the job itself goes on."""
    path = f"/{name}/photo.png"
    ends.web.script[path] = [Reply(body=padded(LIMIT_BYTES), gate=gate)]
    began_s = time.monotonic()
    answer = ends.service.post(asked(ends, name, ends.web.url(path)))
    assert (answer.status, answer.body) == (503, b'{"msg": "request invalid", "code": 502}')
    assert int(answer.headers["retry-after"]) > 0
    assert time.monotonic() - began_s >= ANSWER_TIMEOUT_S
    gate.set()
    assert ends.service.ended(answer.headers["location"])["state"] == "done"


def test_full_queue_is_501(ends: Ends, name: str, gate: threading.Event):
    """With every slot and the queue full a request is refused at once, and none is lost."""
    service, path = ends.service, f"/{name}/photo.png"
    ends.web.script[path] = [Reply(body=padded(LIMIT_BYTES), gate=gate)]
    request = asked(ends, name, ends.web.url(path))
    locations: list[str] = []

    def is_full() -> bool:
        answer = service.post(request, "/jobs")
        if answer.status == 202:
            locations.append(answer.document["links"]["self"])
        return bool(answer.status == 503 and service.stats()["full"])

    eventually(is_full, "the queue is full")
    assert len(locations) == 4
    began_s = time.monotonic()
    answer = service.post(request)
    assert time.monotonic() - began_s < ANSWER_TIMEOUT_S / 2
    assert (answer.status, answer.body) == (503, b'{"msg": "request invalid", "code": 501}')
    assert int(answer.headers["retry-after"]) > 0
    answer = service.post(request, "/jobs")
    assert (answer.status, answer.document["code"]) == (503, 501)
    # Whoever watches the service or cancels a job is heard all the same.
    assert service.send("GET", "/readyz").status == 200
    assert b"imgserve_broker_full 1.0" in service.send("GET", "/metrics").body
    last = locations.pop()
    assert service.send("DELETE", last).status == 202
    assert service.ended(last)["state"] == "cancelled"
    gate.set()
    for location in locations:
        assert service.ended(location)["state"] == "done"
    eventually(lambda: service.post(request).status == 200, "requests are taken again")

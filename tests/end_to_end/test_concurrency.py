"""Many at once: nobody is left without an answer, and the slow do not hold up the quick."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.end_to_end.looks import form, is_placeholder
from tests.support import images
from tests.support.http_server import HttpServer, Reply
from tests.support.service import Answer, Service, eventually

SIZE = (120, 80)
REQUESTS = 200


def asked(web: HttpServer, name: str, number: int, src_url: str) -> dict[str, Any]:
    """A request with a destination of its own."""
    return {
        "operationType": "resize",
        "srcURL": src_url,
        "dstURL": web.url(f"/{name}/{number}.jpg"),
        "args": {"width": SIZE[0], "height": SIZE[1], "method": "PUT"},
    }


def versions(web: HttpServer, path: str) -> list[bytes]:
    """What was PUT to a path, oldest first."""
    return [each.body for each in web.requests if each.path == path and each.method == "PUT"]


def test_two_hundred_requests_at_once_are_all_answered_and_done(
    service: Service, web: HttpServer, name: str
):
    """Each gets its own reply, its placeholder before it and its picture after it."""
    web.files["/photo.jpg"] = images.jpeg(400, 300)
    together = threading.Barrier(REQUESTS)

    def post(number: int) -> Answer:
        together.wait()
        return service.post(asked(web, name, number, web.url("/photo.jpg")))

    with ThreadPoolExecutor(REQUESTS) as threads:
        answers = list(threads.map(post, range(REQUESTS)))
    for number, answer in enumerate(answers):
        assert (answer.status, answer.document) == (
            200,
            {"dstURL": web.url(f"/{name}/{number}.jpg")},
        )
    assert len({answer.headers["location"] for answer in answers}) == REQUESTS
    for answer in answers:
        assert service.ended(answer.headers["location"])["state"] == "done"
    results = set()
    for number in range(REQUESTS):
        placeholder, result = versions(web, f"/{name}/{number}.jpg")
        assert is_placeholder(placeholder, "JPEG", SIZE)
        results.add(result)
    assert len(results) == 1
    assert form(results.pop()) == ("JPEG", SIZE)


def test_slow_sources_do_not_delay_others(service: Service, web: HttpServer, name: str):
    """Jobs are posted, answered and done while sources that came first still trickle."""
    photo = images.jpeg(400, 300)
    web.files[f"/{name}/quick.jpg"] = photo
    gate = threading.Event()
    # Two of them say nothing at all, two stop after their heads, one trickles for 30 seconds.
    for number in (0, 1):
        web.script[f"/{name}/slow{number}.jpg"] = [Reply(body=photo, gate=gate)]
    for number in (2, 3):
        web.script[f"/{name}/slow{number}.jpg"] = [Reply(body=photo, gate=gate, gate_at=5000)]
    trickle = photo.ljust(30_000, b"\0")
    web.script[f"/{name}/slow4.jpg"] = [Reply(body=trickle, pause_s=0.001)]
    slow = []
    for number in range(5):
        request = asked(web, name, number, web.url(f"/{name}/slow{number}.jpg"))
        slow.append(service.post(request, "/jobs").document["links"]["self"])
    eventually(lambda: service.job(slow[4])["state"] == "dispatched", "the slow are under way")

    took_s = []
    for number in range(20):
        began_s = time.monotonic()
        answer = service.post(asked(web, name, 10 + number, web.url(f"/{name}/quick.jpg")))
        took_s.append(time.monotonic() - began_s)
        assert service.ended(answer.headers["location"])["state"] == "done"
    assert max(took_s) < 5
    states = [service.job(location)["state"] for location in slow]
    assert states[:4] == ["dispatched", "dispatched", "accepted", "accepted"]
    assert states[4] in ("dispatched", "accepted")
    gate.set()
    for location in slow[:4]:
        assert service.ended(location)["state"] == "done"
    assert service.send("DELETE", slow[4]).status == 202
    assert service.ended(slow[4])["state"] == "cancelled"

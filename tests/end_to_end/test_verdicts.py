"""Codes 2xx, 3xx and 4xx through the running service: the reply, the job's detail, what is left."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.ends import Ends
from tests.end_to_end.looks import is_placeholder
from tests.support import images
from tests.support.http_server import HttpServer, Reply
from tests.support.service import Answer, Service, eventually

SIZE = (120, 80)
PHOTO = images.png(240, 160)
LARGE = images.jpeg(1200, 900)
NOWHERE = "http://127.0.0.1:9"  # the discard service, which nobody runs


def asked(src_url: str, dst_url: str, **args: Any) -> dict[str, Any]:
    """A request for a result of SIZE."""
    return {
        "operationType": "rasterize" if src_url.endswith(".svg") else "resize",
        "srcURL": src_url,
        "dstURL": dst_url,
        "args": {"width": SIZE[0], "height": SIZE[1]} | args,
    }


def assert_refused(service: Service, request: dict[str, Any], code: int, detail: str) -> None:
    """The request is refused with its code on `/`, and with a detail on `/jobs/<id>`."""
    answer = service.post(request)
    assert (answer.status, answer.body) == (200, b'{"msg": "request invalid", "code": %d}' % code)
    assert answer.headers["content-type"] == "application/json"
    document = service.job(answer.headers["location"])
    assert (document["state"], document["code"]) == ("rejected", code)
    assert re.search(detail, document["detail"]), document["detail"]
    assert document == service.submit(request) | {
        "id": document["id"],
        "attempts": document["attempts"],
    }


@pytest.fixture
def put(web: HttpServer, name: str) -> str:
    """Where this test PUTs its results to."""
    return web.url(f"/{name}/up.")


SOURCES: dict[str, tuple[int, str, str, bytes | None]] = {
    "missing": (201, "photo.png", "404", None),
    "a text": (202, "photo.png", "PNG", b"this is no picture\n"),
    "empty": (202, "photo.gif", "0 bytes", b""),
    "a header alone": (202, "photo.png", "20 bytes", PHOTO[:20]),
    "zeros": (202, "photo.jpeg", "JPEG", bytes(10_000)),
    "too narrow": (203, "photo.png", "119x80", images.png(119, 80)),
    "too low": (203, "photo.jpg", "120x79", images.jpeg(120, 79)),
    "an unfinished SVG": (204, "photo.svg", "line|XML|well", images.svg()[:-6]),
    "HTML for SVG": (202, "photo.svg", "SVG", b"<html><body/></html>"),
    "PNG named jpg": (208, "photo.jpg", "PNG", PHOTO),
    "JPEG named png": (208, "photo.png", "JPEG", images.jpeg(240, 160)),
    "GIF named svg": (208, "photo.svg", "not an SVG", images.gif(240, 160)),
}


@pytest.mark.parametrize(
    ("code", "file_name", "detail", "data"), SOURCES.values(), ids=SOURCES.keys()
)
def test_source_that_will_not_do_is_refused(
    service: Service,
    web: HttpServer,
    put: str,
    name: str,
    code: int,
    file_name: str,
    detail: str,
    data: bytes | None,
):
    """Whatever the source is, the reply has its code and nothing is uploaded."""
    if data is not None:
        web.files[f"/{name}/{file_name}"] = data
    ext = "png" if file_name.endswith("svg") else file_name.rpartition(".")[2]
    request = asked(web.url(f"/{name}/{file_name}"), put + ext, method="PUT")
    assert_refused(service, request, code, detail)
    assert not [path for path in web.stored if path.startswith(f"/{name}/")]


@pytest.mark.parametrize(
    ("src_url", "detail"),
    [
        (f"{NOWHERE}/photo.png", "refused"),
        ("http://no-such-host.invalid/photo.png", "no-such-host.invalid|resolve"),
        ("ftp://127.0.0.1:9/photo.png", "refused"),
        ("file://{files}/photo.png", "No such file"),
    ],
    ids=["http", "name", "ftp", "file"],
)
def test_unreachable_source_is_201(service: Service, put: str, src_url: str, detail: str):
    """A source that nobody serves is code 201, retried or not."""
    request = asked(src_url.format(files=service.files), put + "png", method="PUT")
    assert_refused(service, request, 201, detail)


def test_wrong_ftp_password_is_201_at_the_source_and_205_at_the_destination(ends: Ends, name: str):
    """A refused login is said so, without the password."""
    ends.source("ftp", name, "photo.png", PHOTO)
    source = ends.ftp.url(f"/{name}-source/photo.png", userinfo="user:wrong-word")
    place = ends.place("file", name, "up.png", "up.png")
    assert_refused(ends.service, asked(source, place.dst_url), 201, "refused the user name or")
    source = ends.source("http", name, "photo.png", PHOTO)
    target = ends.ftp.url(f"/{name}/up.png", userinfo="user:wrong-word")
    assert_refused(ends.service, asked(source, target), 205, "refused the user name or")
    assert "wrong-word" not in ends.service.log_file.read_text()


@pytest.mark.parametrize("kind", ["refused", "dead", "full", "folder"])
def test_destination_that_takes_no_placeholder_is_205(ends: Ends, name: str, kind: str):
    """A destination that does not take the placeholder gets no job accepted."""
    source = ends.source("http", name, "photo.png", PHOTO)
    if kind == "refused":
        ends.web.script[f"/{name}/up.png"] = [Reply(403)]
        request = asked(source, ends.web.url(f"/{name}/up.png"), method="PUT")
        assert_refused(ends.service, request, 205, "403 Forbidden")
    elif kind == "dead":
        request = asked(source, f"{NOWHERE}/up.png", method="PUT")
        assert_refused(ends.service, request, 205, "refused")
    elif kind == "full":
        ends.ftp.refuse_names.add("full.png")
        ends.ftp.refuse["STOR"] = "552 disk full"
        try:
            request = asked(source, ends.ftp.url(f"/{name}/full.png"))
            assert_refused(ends.service, request, 205, "552")
        finally:
            ends.ftp.refuse.clear()
    else:
        (ends.service.files / name / "up.png").mkdir(parents=True)
        place = ends.place("file", name, "up.png", "up.png")
        assert_refused(ends.service, asked(source, place.dst_url), 205, "directory")


@pytest.mark.parametrize(
    "src_url",
    [
        "http://169.254.169.254/latest/photo.png",
        "http://[::ffff:169.254.169.254]/photo.png",
        "http://0.0.0.0:9/photo.png",
        "ftp://224.0.0.1/photo.png",
        "file:///etc/photo.png",
        "file://{files}/../photo.png",
        "file://{files}/link/photo.png",
    ],
)
def test_forbidden_source_is_301(service: Service, put: str, src_url: str):
    """Denied networks and files outside the root are not even tried."""
    link = service.files / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    request = asked(src_url.format(files=service.files), put + "png", method="PUT")
    assert_refused(service, request, 301, "--allow-network|--file-root")


@pytest.mark.parametrize(
    ("dst_url", "args"),
    [
        ("http://169.254.169.254/up.png", {"method": "PUT"}),
        ("http://169.254.169.254/page:up.png", {"field_name": "f"}),
        ("ftp://100.64.0.1/up.png", {}),
        ("file:///etc/up.png", {}),
        ("file://{files}/../up.png", {}),
    ],
)
def test_forbidden_destination_is_302(ends: Ends, name: str, dst_url: str, args: dict[str, Any]):
    """Denied networks and files outside the root take nothing."""
    source = ends.source("http", name, "photo.png", PHOTO)
    request = asked(source, dst_url.format(files=ends.service.files), **args)
    assert_refused(ends.service, request, 302, "--allow-network|--file-root")


@pytest.fixture
def page(web: HttpServer, name: str) -> Page:
    """A page that takes PUTs, and keeps every version."""
    return Page(web, f"/{name}/up.jpg")


class Page:
    """One path of the HTTP server as a destination."""

    def __init__(self, web: HttpServer, path: str) -> None:
        self.web = web
        self.path = path
        self.url = web.url(path)

    @property
    def versions(self) -> list[bytes]:
        """What was PUT there, oldest first, taken or not."""
        return [each.body for each in self.web.requests if each.path == self.path]

    def assert_shows_failure(self) -> None:
        """The placeholder came first, and another one, which says the failure, is there now."""
        first, last = self.versions[0], self.versions[-1]
        assert is_placeholder(first, "JPEG", SIZE)
        assert is_placeholder(last, "JPEG", SIZE)
        assert first != last


def accepted(service: Service, request: dict[str, Any]) -> Answer:
    """Post a request, which is accepted."""
    answer = service.post(request)
    assert (answer.status, answer.document) == (200, {"dstURL": request["dstURL"]})
    return answer


def failed(service: Service, answer: Answer, code: int, detail: str) -> dict[str, Any]:
    """Wait for the end of an accepted job, which fails."""
    document = service.ended(answer.headers["location"])
    state = "cancelled" if code == 406 else "failed"
    assert (document["state"], document["code"]) == (state, code), document
    assert re.search(detail, document["detail"]), document["detail"]
    return document


@pytest.mark.parametrize("source", ["http", "ftp", "file"])
@pytest.mark.parametrize("destination", ["http-put", "http-post", "ftp", "file"])
def test_truncated_image_is_accepted_then_401(ends: Ends, name: str, source: str, destination: str):
    """A picture without its end fails, and its destination shows the failure."""
    src_url = ends.source(source, name, "photo.jpg", LARGE[: len(LARGE) // 2])
    place = ends.place(destination, name, "up.jpg", "up.jpg")
    answer = accepted(ends.service, asked(src_url, place.dst_url, **place.args))
    failed(ends.service, answer, 401, "truncated|decoded|broken|end")
    shown = place.now()
    assert shown is not None
    assert is_placeholder(shown, "JPEG", SIZE)
    assert shown == failure_placeholder(ends)
    assert place.names() == ["up.jpg"]


def failure_placeholder(ends: Ends) -> bytes:
    """What a failed job shows in the end, from a job whose every version was kept."""
    page = Page(ends.web, "/broken/up.jpg")
    src_url = ends.source("http", "broken", "photo.jpg", LARGE[:20_000])
    assert ends.service.submit(asked(src_url, page.url, method="PUT"))["code"] == 401
    page.assert_shows_failure()
    return page.versions[-1]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_source_that_dies_after_its_head_is_403(
    service: Service, web: HttpServer, page: Page, name: str, reset: bool
):
    """The job was accepted by the head, is tried again, and fails."""
    path = f"/{name}/photo.jpg"
    web.script[path] = [Reply(body=LARGE, cut_at=len(LARGE) - 10, reset=reset)]
    answer = accepted(service, asked(web.url(path), page.url, method="PUT"))
    failed(service, answer, 403, "closed|broke")
    assert len([each for each in web.requests if each.path == path]) == 2
    assert len(page.versions) == 2  # the second attempt uploads no placeholder again
    page.assert_shows_failure()


def test_destination_that_takes_no_result_is_404(
    service: Service, web: HttpServer, page: Page, name: str
):
    """The placeholder was taken, the result is not, the failure placeholder is again."""
    web.files[f"/{name}/photo.jpg"] = LARGE
    web.script[page.path] = [Reply(201), Reply(403), Reply(201)]
    request = asked(web.url(f"/{name}/photo.jpg"), page.url, method="PUT")
    failed(service, accepted(service, request), 404, "403 Forbidden")
    assert len(page.versions) == 3
    page.assert_shows_failure()


def test_destination_that_takes_nothing_more_is_told_in_the_detail(
    service: Service, web: HttpServer, page: Page, name: str
):
    """When even the failure placeholder is refused, the job's detail says so."""
    web.files[f"/{name}/photo.jpg"] = LARGE
    web.script[page.path] = [Reply(201), Reply(403)]
    request = asked(web.url(f"/{name}/photo.jpg"), page.url, method="PUT")
    failed(service, accepted(service, request), 404, "placeholder could not be replaced.*403")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end of the test at the latest."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_cancelled_while_running_is_406(
    service: Service, web: HttpServer, page: Page, name: str, gate: threading.Event
):
    """An accepted job can be cancelled; its destination shows that nothing will come."""
    path = f"/{name}/photo.jpg"
    web.script[path] = [Reply(body=LARGE, gate=gate, gate_at=len(LARGE) // 2)]
    answer = accepted(service, asked(web.url(path), page.url, method="PUT"))
    cancelled = service.send("DELETE", answer.headers["location"])
    assert cancelled.status == 202
    failed(service, answer, 406, "cancel")
    page.assert_shows_failure()
    assert len(page.versions) == 2


def test_cancelled_before_acceptance_uploads_nothing(
    service: Service, web: HttpServer, page: Page, name: str, gate: threading.Event
):
    """Cancelling a job whose source has not begun to come answers the one who waits for it."""
    path = f"/{name}/photo.jpg"
    web.script[path] = [Reply(body=LARGE, gate=gate)]
    request = asked(web.url(path), page.url, method="PUT")
    location = service.post(request, "/jobs").document["links"]["self"]
    eventually(lambda: service.job(location)["state"] == "dispatched", "a worker has the job")
    assert service.send("DELETE", location).status == 202
    document = service.ended(location)
    assert (document["state"], document["code"]) == ("cancelled", 406)
    assert page.versions == []

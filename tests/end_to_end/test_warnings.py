"""What a result does not show is said wherever a job's outcome is read."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from imgserve.client import Client
from tests.support import images
from tests.support.http_server import HttpServer
from tests.support.service import Service, eventually

OUTSIDE = images.svg('<image href="http://elsewhere.example/a.png" width="9" height="9"/>')
EXPECTED = [
    {
        "warning": "image_not_drawn",
        "detail": "an image outside of the SVG is not fetched; embed it as a data URL",
    }
]


def asked(web: HttpServer, name: str, number: int = 1, body: bytes = OUTSIDE) -> dict[str, Any]:
    """A request for a picture of which something is missing."""
    web.files[f"/{name}/drawing.svg"] = body
    return {
        "operationType": "rasterize",
        "srcURL": web.url(f"/{name}/drawing.svg"),
        "dstURL": web.url(f"/{name}/{number}.png"),
        "args": {"width": 40, "height": 30, "method": "PUT"},
    }


def test_api_says_it_and_the_old_reply_stays_as_it_was(
    service: Service, web: HttpServer, name: str
):
    """`POST /` is exact to its key; the job's document has the warning."""
    request = asked(web, name)
    assert service.submit(request)["warnings"] == EXPECTED
    answer = service.post(asked(web, name, 2))
    assert (answer.status, answer.document) == (200, {"dstURL": web.url(f"/{name}/2.png")})


def test_picture_that_shows_everything_has_none(service: Service, web: HttpServer, name: str):
    """The key is there all the same, for programs."""
    whole = images.svg('<rect width="9" height="9"/>')
    assert service.submit(asked(web, name, body=whole))["warnings"] == []


def test_client_and_command_line_say_it(
    service: Service, web: HttpServer, name: str, tmp_path: Path
):
    """The outcome has the pairs; `submit` prints them, and counts at the end."""
    with Client(service.connection) as client:
        outcome = client.submit(asked(web, name)).result(timeout_s=30)
    assert [warning.as_json() for warning in outcome.warnings] == EXPECTED
    whole = tmp_path / "requests.jsonl"
    whole.write_text(json.dumps(asked(web, name)) + "\n")
    done = service.run("submit", str(whole))
    assert json.loads(done.stdout)["warnings"] == EXPECTED
    assert "1 done (1 of them with warnings)" in done.stderr


@pytest.mark.parametrize("ext", ["gif", "png"])
def test_first_frame_alone_of_an_animation_is_told(
    service: Service, web: HttpServer, name: str, ext: str
):
    """Its result does not move."""
    web.files[f"/{name}/moving.{ext}"] = images.animated(ext.upper(), 60, 40)
    request = {
        "operationType": "resize",
        "srcURL": web.url(f"/{name}/moving.{ext}"),
        "dstURL": web.url(f"/{name}/still.{ext}"),
        "args": {"width": 30, "height": 20, "method": "PUT"},
    }
    (warning,) = service.submit(request)["warnings"]
    assert warning["warning"] == "animation_not_kept"


def test_journal_keeps_it(tmp_path: Path, web: HttpServer, name: str):
    """After the broker was killed and started again, the job's document is the same."""
    with Service(tmp_path, "--processes", "1") as service:
        answer = service.post(asked(web, name), "/jobs")
        location = answer.document["links"]["self"]
        before = service.ended(location)
        (broker,) = service.record["parts"]["broker"]
        os.kill(broker, signal.SIGKILL)
        eventually(lambda: service.record["parts"]["broker"] not in ([], [broker]), "a new broker")
        eventually(lambda: service.send("GET", location).status == 200, "it answers")
        assert service.job(location) == before
        assert before["warnings"] == EXPECTED

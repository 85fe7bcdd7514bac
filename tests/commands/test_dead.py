"""`imgserve dead`: what failed can be listed, inspected, tried again and dropped."""

from __future__ import annotations

import json

from PIL import Image

from imgserve.commands.dead import _printable
from imgserve.commands.exit_codes import ExitCode
from tests.support.images import encode


def _documents(ended):
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_a_failed_job_from_list_to_drop(running, http):
    """A picture whose data is broken fails after acceptance, and is there for every action."""
    whole = encode(Image.effect_noise((300, 200), 60), "PNG")
    middle = len(whole) // 2
    http.files["/broken.png"] = whole[:middle] + bytes(200) + whole[middle + 200 :]
    request = {
        "operationType": "resize",
        "srcURL": http.url("/broken.png"),
        "dstURL": http.url("/result.png"),
        "args": {"width": 30, "height": 20, "method": "PUT"},
    }
    submitted = running.run("submit", "-name=broken", "-", input=json.dumps(request))
    assert submitted.returncode == ExitCode.JOBS_FAILED
    assert _documents(submitted)[0]["code"] == 401

    listed = _documents(running.run("dead", "list"))
    assert [letter["code"] for letter in listed if letter["id"] == "broken-1"] == [401]

    shown = _documents(running.run("dead", "show", "broken-1"))[0]
    assert shown["payload"] == request

    http.files["/broken.png"] = whole
    retried = _documents(running.run("dead", "retry", "broken-1"))[0]
    assert retried["retried_as"] != "broken-1"

    assert running.run("dead", "drop", "broken-1").returncode == 0
    gone = running.run("dead", "show", "broken-1")
    assert gone.returncode == ExitCode.NO_INPUT
    assert "there is no dead letter broken-1" in gone.stderr


def test_request_is_shown_without_user_info():
    """Whoever may list dead letters need not know a store's password."""
    payload = json.dumps({"dstURL": "ftp://u:p@h/a.png", "args": {"a": ["http://u@h/?b@c"]}})
    assert _printable({"payload": payload.encode()}) == {
        "payload": {"dstURL": "ftp://h/a.png", "args": {"a": ["http://h/?b@c"]}}
    }

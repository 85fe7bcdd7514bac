"""`/jobs`: submit without waiting for the placeholder, look, cancel."""

from __future__ import annotations

import time

import pytest

from imgserve.protocol.events import Refusal, State
from imgserve.protocol.jobs import Submit
from tests.support.broker_double import queue_only
from tests.support.eventually import eventually
from tests.support.gateway_run import REQUEST, GatewayRun

KEYS = {
    "id", "state", "dstURL", "code", "detail", "attempts", "seconds", "width", "height", "bytes",
    "warnings",
}  # fmt: skip


def test_a_job_is_taken_as_soon_as_it_is_durable(broker, gateway):
    """202 with id, state and where to look, though no worker has it yet."""
    broker.script = queue_only
    answer = gateway.post(REQUEST, "/jobs")
    job_id = answer.json["id"]
    assert answer.status == 202
    assert answer.json == {"id": job_id, "state": "queued", "links": {"self": f"/jobs/{job_id}"}}
    assert answer.headers["Location"] == f"/jobs/{job_id}"


def test_a_body_that_is_no_request_is_400_with_the_reason(gateway):
    """Here the answer says what was wrong."""
    answer = gateway.post(b"[]", "/jobs")
    assert answer.status == 400
    assert answer.json == {
        "msg": "request parse error",
        "detail": "the body is a JSON array, not an object",
    }
    answer = gateway.post({**REQUEST, "operationType": "paint"}, "/jobs")
    assert answer.status == 400
    assert answer.json.keys() == {"msg", "code", "detail"}
    assert answer.json["code"] == 102


def test_a_key_names_the_job_and_another_request_under_it_is_409(gateway):
    """Idempotent submit over HTTP."""
    first = gateway.post(REQUEST, "/jobs", Idempotency_Key="order-7")
    assert first.json["id"] == "order-7"
    assert gateway.post(REQUEST, "/jobs", Idempotency_Key="order-7").status == 202
    other = {**REQUEST, "srcURL": "http://there/b.png"}
    answer = gateway.post(other, "/jobs", Idempotency_Key="order-7")
    assert answer.status == 409
    assert answer.json.keys() == {"msg", "detail"}


@pytest.mark.parametrize("key", ["", "a b", "x" * 65, "a/b", "ä"])
def test_a_key_that_is_not_allowed_is_400(gateway, key):
    """With what is allowed."""
    answer = gateway.post(REQUEST, "/jobs", Idempotency_Key=key)
    assert answer.status == 400
    assert "1 to 64" in answer.json["detail"]


@pytest.mark.parametrize("text", ["-100", "0", "100", "7"])
def test_a_priority_goes_to_the_broker(broker, gateway, text):
    """-100 to 100, both ends included."""
    assert gateway.post(REQUEST, "/jobs", Imgserve_Priority=text).status == 202
    assert broker.asked(Submit)[-1].priority == int(text)


@pytest.mark.parametrize("text", ["101", "-101", "", "-", "1.5", "high", "--1", "+1", "1_0", "²"])
def test_a_priority_that_is_not_allowed_is_400(gateway, text):
    """With the value seen and what is allowed."""
    answer = gateway.post(REQUEST, "/jobs", Imgserve_Priority=text)
    assert answer.status == 400
    assert "-100 to 100" in answer.json["detail"]


def test_overload_is_503_with_when_to_come_again(broker, gateway):
    """And says so in words."""
    broker.refuse = Refusal.OVERLOADED
    answer = gateway.post(REQUEST, "/jobs")
    assert answer.status == 503
    assert answer.json["code"] == 501
    assert answer.json["detail"] == "overloaded here"
    assert "Retry-After" in answer.headers


def test_a_done_job_shows_all_that_is_known(gateway):
    """Exactly the ten keys, null where nothing is known."""
    answer = gateway.ask("GET", gateway.post(REQUEST).headers["Location"])
    assert answer.status == 200
    assert answer.json.keys() == KEYS
    assert answer.json["state"] == "done"
    assert answer.json["dstURL"] == "http://there/done.png"
    assert (answer.json["width"], answer.json["height"], answer.json["bytes"]) == (4, 3, 99)
    assert answer.json["seconds"] == {"total": 0.01}
    assert (answer.json["code"], answer.json["detail"]) == (None, None)


def test_a_job_is_seen_from_every_gateway_process(broker, gateway):
    """The broker is asked, not the process's memory."""
    broker.script = queue_only
    location = gateway.post(REQUEST, "/jobs").headers["Location"]
    with GatewayRun(broker.path) as other:
        answer = other.ask("GET", location)
    assert answer.json.keys() == KEYS
    assert (answer.json["state"], answer.json["dstURL"], answer.json["width"]) == (
        "queued", None, None,
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/jobs/never", "/jobs/a%20b", "/jobs/%00", f"/jobs/{'x' * 65}"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_job_is_404(gateway, method, path):
    """With msg and detail, without an echo of the path."""
    answer = gateway.ask(method, path)
    assert answer.status == 404
    assert answer.json.keys() == {"msg", "detail"}


def test_a_broker_that_does_not_answer_is_503(broker, gateway):
    """Soon, and with Retry-After."""
    gateway.post(REQUEST)
    broker.mute = True
    begun_s = time.monotonic()
    for method in ("GET", "DELETE"):
        answer = gateway.ask(method, "/jobs/some")
        assert (answer.status, answer.json["code"]) == (503, 502)
        assert "Retry-After" in answer.headers
    assert time.monotonic() - begun_s < 8


def test_a_queued_job_is_cancelled_once(broker, gateway):
    """202 when it takes effect, 200 when it had."""
    broker.script = queue_only
    location = gateway.post(REQUEST, "/jobs").headers["Location"]
    first = gateway.ask("DELETE", location)
    assert (first.status, first.json["state"]) == (202, "cancelled")
    assert gateway.ask("DELETE", location).status == 200


def test_a_running_job_is_asked_to_stop(broker, gateway):
    """202 with its present state; it ends later."""
    broker.script = lambda submit: [(State.QUEUED, {}), (State.DISPATCHED, {})]
    location = gateway.post(REQUEST, "/jobs").headers["Location"]
    eventually(lambda: gateway.ask("GET", location).json["state"] == "dispatched")
    answer = gateway.ask("DELETE", location)
    assert (answer.status, answer.json["state"]) == (202, "dispatched")


def test_an_ended_job_cannot_be_cancelled(gateway):
    """409: a terminal state never changes."""
    answer = gateway.ask("DELETE", gateway.post(REQUEST).headers["Location"])
    assert (answer.status, answer.json["state"]) == (409, "done")

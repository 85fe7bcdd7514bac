"""`POST /`: the historical contract."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgserve.protocol.events import Refusal, State
from tests.support.broker_double import queue_only
from tests.support.eventually import eventually
from tests.support.gateway_run import REQUEST, GatewayRun


def rejected(code):
    """A script: every job is rejected so."""
    return lambda submit: [(State.QUEUED, {}), (State.REJECTED, {"code": code, "detail": "so"})]


def test_an_accepted_job_answers_with_its_final_destination(gateway):
    """HTTP 200, exactly the key dstURL, plain JSON, and where the job is."""
    answer = gateway.post(REQUEST)
    assert answer.status == 200
    assert answer.json == {"dstURL": "http://there/done.png"}
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Location"].startswith("/jobs/")


def test_a_rejected_job_answers_with_its_code(broker, gateway):
    """A worker's verdict is HTTP 200 with msg and code and no other keys."""
    broker.script = rejected(203)
    answer = gateway.post(REQUEST)
    assert (answer.status, answer.json) == (200, {"msg": "request invalid", "code": 203})
    assert "Location" in answer.headers


def test_a_job_that_fails_before_acceptance_answers_with_its_code(broker, gateway):
    """Failed and cancelled jobs are verdicts, too."""
    broker.script = lambda submit: [(State.QUEUED, {}), (State.FAILED, {"code": 405})]
    answer = gateway.post(REQUEST)
    assert (answer.status, answer.json) == (200, {"msg": "request invalid", "code": 405})


def test_the_quick_checks_answer_without_the_broker(broker, gateway):
    """What fails them travels no further."""
    answer = gateway.post({**REQUEST, "operationType": "paint"})
    assert (answer.status, answer.json) == (200, {"msg": "request invalid", "code": 102})
    assert "Location" not in answer.headers
    assert broker.submits == 0


UNPARSABLE = {
    "empty": b"",
    "white": b" \r\n\t",
    "binary": bytes(range(256)),
    "null": b"null",
    "array": b"[1]",
    "string": b'"{}"',
    "cut": b'{"srcURL": ',
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "NaN": b'{"a": NaN}',
    "bad UTF-8": b'{"a": "\xff"}',
    "BOM": b"\xef\xbb\xbf{}",
    "two BOMs": b"\xef\xbb\xbf\xef\xbb\xbf{}",
    "huge number": b'{"a": ' + b"9" * 50_000 + b"}",
    "5 MB of a": b"a" * 5_000_000,
    "5 MB array": b" [" + b"1," * 2_500_000,
}


@pytest.mark.parametrize("name", UNPARSABLE)
def test_whatever_is_no_json_object_is_a_parse_error(gateway, name):
    """The body is exactly the historical one, whatever was sent."""
    answer = gateway.post(UNPARSABLE[name])
    assert (answer.status, answer.json) == (200, {"msg": "request parse error"})


@pytest.mark.parametrize("content_type", ["text/plain", "image/png", "nonsense"])
def test_the_content_type_is_not_checked(gateway, content_type):
    """Old clients send whatever they like."""
    assert "dstURL" in gateway.post(REQUEST, Content_Type=content_type).json


def padded(size_bytes):
    """A good request, made long with white space."""
    text = json.dumps(REQUEST)
    return (text + " " * (size_bytes - len(text))).encode()


@pytest.mark.parametrize(
    ("size_bytes", "verdict"),
    [(65_535, None), (65_536, None), (65_537, 117), (1_048_576, 117), (5_000_000, 117)],
)
def test_a_request_over_64_kib_is_117(gateway, size_bytes, verdict):
    """At the limit it passes; over it, however far, the client hears 117 and no reset."""
    answer = gateway.post(padded(size_bytes))
    assert answer.status == 200
    assert answer.json.get("code") == verdict


def test_a_large_body_with_another_fault_has_that_faults_code(gateway):
    """The checks go in the order of their codes; 117 is the last."""
    body = json.dumps({**REQUEST, "args": None}) + " " * 70_000
    assert gateway.post(body).json["code"] == 103


def test_no_answer_in_time_is_503_with_502(broker):
    """The job goes on; the client hears when to ask again and where."""
    broker.script = queue_only
    with GatewayRun(broker.path, answer_timeout_s=0.3) as gateway:
        answer = gateway.post(REQUEST)
        assert (answer.status, answer.json) == (503, {"msg": "request invalid", "code": 502})
        assert int(answer.headers["Retry-After"]) > 0
        assert gateway.ask("GET", answer.headers["Location"]).json["state"] == "queued"


@pytest.mark.parametrize(("refusal", "code"), [(Refusal.OVERLOADED, 501), (Refusal.DRAINING, 503)])
def test_a_refusal_is_said_at_once(broker, gateway, refusal, code):
    """Overload and shutdown of the broker are 503 with Retry-After, not a long wait."""
    broker.refuse = refusal
    answer = gateway.post(REQUEST)
    assert (answer.status, answer.json) == (503, {"msg": "request invalid", "code": code})
    assert "Retry-After" in answer.headers


def test_a_full_broker_is_said_without_asking_it(broker, gateway):
    """Its beat tells; the gateway answers 501 at once."""
    gateway.post(REQUEST)
    broker.full = True
    eventually(lambda: gateway.post(REQUEST).json.get("code") == 501)
    broker.full = False
    eventually(lambda: gateway.post(REQUEST).json.get("dstURL"))


def test_more_waiting_requests_than_the_limit_are_turned_away(broker):
    """One over the limit hears 501 at once, while the others wait on."""
    broker.script = queue_only
    run = GatewayRun(broker.path, waiting_limit=1, answer_timeout_s=2)
    with run as gateway, ThreadPoolExecutor(1) as pool:
        first = pool.submit(gateway.post, REQUEST)
        eventually(lambda: broker.submits == 1)
        begun_s = time.monotonic()
        assert gateway.post(REQUEST).json["code"] == 501
        assert time.monotonic() - begun_s < 1
        assert first.result().json["code"] == 502


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_other_methods_are_404(gateway, method):
    """Until there is a dashboard."""
    assert gateway.ask(method, "/").status == 404


def test_a_job_key_that_is_not_allowed_is_115(gateway):
    """As is a priority out of range: values that are not allowed."""
    for headers in ({"Idempotency_Key": "a b"}, {"Imgserve_Priority": "101"}):
        assert gateway.post(REQUEST, **headers).json == {"msg": "request invalid", "code": 115}


def test_a_job_key_makes_a_repeated_request_the_same_job(broker, gateway):
    """The original outcome comes again; another request under the key is refused."""
    first = gateway.post(REQUEST, Idempotency_Key="key-1")
    again = gateway.post(REQUEST, Idempotency_Key="key-1")
    assert first.json == again.json
    assert first.headers["Location"] == again.headers["Location"] == "/jobs/key-1"
    other = gateway.post({**REQUEST, "srcURL": "http://there/b.png"}, Idempotency_Key="key-1")
    assert other.json == {"msg": "request invalid", "code": 115}

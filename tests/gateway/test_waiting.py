"""Many requests that wait at once, clients that go away, and the end of the process."""

from __future__ import annotations

import json
import selectors
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from imgserve.protocol.events import State
from imgserve.protocol.jobs import Replay, Submit
from tests.support.broker_double import queue_only
from tests.support.eventually import eventually
from tests.support.gateway_run import REQUEST, GatewayRun

BODY = json.dumps(REQUEST).encode()
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def send_only(gateway):
    """A connection with a request on it, its answer not read."""
    raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    raw.sendall(POST)
    return raw


def test_a_thousand_requests_wait_at_once(broker, gateway):
    """Each gets its own job's answer, and others are served meanwhile."""
    broker.script = queue_only
    waiting = [send_only(gateway) for _ in range(1000)]
    eventually(lambda: len(broker.known) == 1000, 20)
    begun_s = time.monotonic()
    assert gateway.ask("GET", "/healthz").status == 200
    assert time.monotonic() - begun_s < 1
    for job_id in list(broker.known):
        broker.say(job_id, State.ACCEPTED, dst_url=f"http://there/{job_id}")
    urls = set()
    with selectors.DefaultSelector() as selector:
        for raw in waiting:
            selector.register(raw, selectors.EVENT_READ)
        deadline_s = time.monotonic() + 20
        while len(urls) < 1000 and time.monotonic() < deadline_s:
            for key, _ in selector.select(1):
                head, _, body = key.fileobj.recv(4096).partition(b"\r\n\r\n")
                url = json.loads(body)["dstURL"]
                assert f"Location: /jobs/{url.rpartition('/')[2]}\r\n".encode() in head + b"\r\n"
                urls.add(url)
                selector.unregister(key.fileobj)
    for raw in waiting:
        raw.close()
    assert len(urls) == 1000


def test_a_slow_job_delays_no_other(broker, gateway):
    """The first waits; the second is answered in between."""
    slow = []

    def script(submit):
        if not slow:
            slow.append(submit.job_id)
            return [(State.QUEUED, {})]
        return [(State.ACCEPTED, {"dst_url": "http://there/quick"})]

    broker.script = script
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(gateway.post, REQUEST)
        eventually(lambda: slow)
        assert gateway.post(REQUEST).json == {"dstURL": "http://there/quick"}
        assert not first.done()
        broker.say(slow[0], State.ACCEPTED, dst_url="http://there/slow")
        assert first.result().json == {"dstURL": "http://there/slow"}


def test_a_broker_that_restarts_is_waited_for(broker, gateway):
    """The HTTP client notices nothing but the time."""
    broker.script = queue_only
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(gateway.post, REQUEST)
        eventually(lambda: broker.known)
        broker.restart()
        broker.say(next(iter(broker.known)), State.ACCEPTED, dst_url="http://there/after")
        assert answer.result().json == {"dstURL": "http://there/after"}


def test_a_job_posted_while_the_broker_is_away_is_done_when_it_is_back(broker, gateway):
    """It is held, not refused."""
    gateway.post(REQUEST)
    broker.stop()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(gateway.post, REQUEST)
        eventually(lambda: gateway.ask("GET", "/healthz").status == 200)
        broker.start()
        assert "dstURL" in answer.result().json


def test_a_client_that_goes_away_frees_its_wait_and_the_job_goes_on(broker):
    """The place in the waiting limit is free again."""
    broker.script = queue_only
    with GatewayRun(broker.path, waiting_limit=1) as gateway:
        raw = send_only(gateway)
        eventually(lambda: broker.known)
        assert gateway.post(REQUEST).json["code"] == 501
        raw.close()
        broker.script = lambda submit: [(State.ACCEPTED, {"dst_url": "u"})]
        eventually(lambda: gateway.post(REQUEST).json.get("dstURL"))
        first = broker.asked(Submit)[0].job_id
        assert gateway.ask("GET", f"/jobs/{first}").json["state"] == "queued"


def test_a_request_that_never_ends_is_cut_off(broker):
    """Body and headers have their times."""
    with GatewayRun(broker.path, http_body_timeout_s=0.3, http_idle_timeout_s=0.3) as gateway:
        for beginning in (POST[:-5], b"POST / HTTP/1.1\r\nHost:", b""):
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as raw:
                raw.sendall(beginning)
                assert raw.recv(4096) == b""


def test_the_end_waits_for_answers_and_takes_nothing_new(broker):
    """A request under way is answered; then the exit code is 0."""
    broker.script = queue_only
    with GatewayRun(broker.path) as gateway, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(gateway.post, REQUEST)
        eventually(lambda: broker.known)
        gateway.stop()
        broker.say(next(iter(broker.known)), State.ACCEPTED, dst_url="http://there/x")
        assert answer.result().json == {"dstURL": "http://there/x"}
        gateway.join()
        assert gateway.exit_code == 0


def test_the_end_waits_for_a_look_at_a_job_too(broker):
    """What has begun is answered, whatever it asks: the broker was slow when the end came."""
    with GatewayRun(broker.path) as gateway, ThreadPoolExecutor(1) as pool:
        job = gateway.post(REQUEST).headers["Location"]
        broker.mute = True
        answer = pool.submit(gateway.ask, "GET", job)
        job_id = job.rpartition("/")[2]
        eventually(lambda: any(job_id in replay.job_ids for replay in broker.asked(Replay)))
        gateway.stop()
        eventually(lambda: gateway.draining)
        time.sleep(0.2)  # enough for a gateway that does not wait to close the connection
        broker.mute = False
        broker.say(job_id, State.DONE)
        assert answer.result().json["state"] == "done"
        gateway.join()
        assert gateway.exit_code == 0


def test_a_connection_kept_alive_hears_that_the_service_ends(broker, monkeypatch):
    """503 with code 503, while another request holds the end up."""
    monkeypatch.setattr("imgserve.gateway.app.FRESH_S", 0.0)
    broker.script = queue_only
    with GatewayRun(broker.path) as gateway:
        kept = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in kept.recv(4096)
        waiting = send_only(gateway)
        eventually(lambda: broker.known)
        gateway.stop()
        eventually(lambda: gateway.draining)
        kept.sendall(POST)
        answer = kept.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503")
        assert answer.endswith(b'"code": 503}')
        broker.say(next(iter(broker.known)), State.ACCEPTED, dst_url="u")
        assert b"dstURL" in waiting.recv(4096)
        kept.close()
        waiting.close()


def test_what_still_waits_at_the_end_of_patience_hears_503(broker, monkeypatch):
    """Bounded: nobody holds the process up for ever."""
    monkeypatch.setattr("imgserve.gateway.service.FAREWELL_S", 0.2)
    broker.script = queue_only
    with GatewayRun(broker.path) as gateway:
        waiting = send_only(gateway)
        eventually(lambda: broker.known)
        gateway.stop()
        answer = waiting.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503")
        assert answer.endswith(b'"code": 503}')
        waiting.close()
        gateway.join()
        assert gateway.exit_code == 0

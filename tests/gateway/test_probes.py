"""Health, readiness, metrics, and what all answers have in common."""

from __future__ import annotations

import logging
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imgserve.gateway.access_log import LINES_BURST
from tests.support.eventually import eventually
from tests.support.gateway_run import REQUEST, GatewayRun

FIGURES = {
    "jobs_total": {"done": 5, "failed": 2},
    "queue_length": 7,
    "in_flight": 3,
    "credit": 13,
    "workers": [{"incarnation": "w"}],
    "stages": {"fetch": {"bounds": [0.1, 1.0], "counts": [4, 2, 1], "sum": 3.5}},
    "full": False,
    "uptime_s": 60.0,
}


def samples(answer):
    """What Prometheus would read."""
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_health_needs_no_broker(tmp_path):
    """The process serves; that is all it says."""
    with GatewayRun(tmp_path / "connection.json") as gateway:
        assert gateway.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/queue"])
def test_head_is_get_without_a_body(broker, gateway, path):
    """RFC 9110, 9.3.2: load balancers ask so."""
    broker.figures = FIGURES
    for method in ("HEAD", "GET"):
        answer = gateway.ask(method, path)
        assert answer.status == 200
        assert bool(answer.body) == (method == "GET")
        assert int(answer.headers["Content-Length"]) > 0


def test_probes_have_a_port_of_their_own_with_nothing_else_on_it(broker, gateway):
    """No other traffic is taken there, so none can fill it."""
    broker.figures = FIGURES
    for path in ("/healthz", "/readyz", "/metrics"):
        assert gateway.ask("GET", path, port=gateway.probe_port).status == 200
    for method, path in (("POST", "/"), ("POST", "/jobs"), ("GET", "/queue"), ("GET", "/jobs/a")):
        assert gateway.ask(method, path, port=gateway.probe_port).status == 404


def test_a_probe_that_succeeds_is_not_logged(broker, gateway, caplog):
    """Whoever asks without end fills no disk; one that fails is logged."""
    caplog.set_level(logging.INFO, "imgserve.gateway")
    broker.figures = FIGURES
    for path in ("/healthz", "/readyz", "/metrics"):
        gateway.ask("GET", path)
    broker.figures = {"workers": []}
    gateway.ask("GET", "/readyz")
    lines = eventually(lambda: [text for text in caplog.messages if "GET " in text])
    assert [line.partition(",")[0] for line in lines] == ["GET /readyz: 503"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
        b"no HTTP at all\r\n\r\n",
    ],
    ids=["not-found", "not-json", "not-http"],
)
def test_requests_without_a_job_have_a_budget_of_log_lines(gateway, caplog, data):
    """What is left out is counted in one line once there is room again."""
    caplog.set_level(logging.INFO)
    for _ in range(LINES_BURST + 200):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as raw:
            raw.sendall(data)
            assert raw.recv(4096).startswith(b"HTTP/1.1 ")
    lines = [text for text in caplog.messages if ": 404, " in text or ": 200, " in text
             or "Malformed" in text]  # fmt: skip
    assert LINES_BURST <= len(lines) < LINES_BURST + 200
    assert "POST /" in eventually(lambda: _left_out(gateway, caplog))


def _left_out(gateway, caplog):
    """Ask until the budget has a line again; return the log with the count of those left out."""
    gateway.post(b"x")
    return caplog.text if "lines were left out" in caplog.text else ""


def test_ready_means_that_a_worker_is_connected(broker, gateway):
    """503 with the reason otherwise."""
    broker.figures = {"workers": []}
    answer = gateway.ask("GET", "/readyz")
    assert (answer.status, answer.json["detail"]) == (503, "no worker is connected")
    broker.figures = FIGURES
    assert gateway.ask("GET", "/readyz").status == 200
    broker.silent_stats = True
    answer = gateway.ask("GET", "/readyz")
    assert (answer.status, answer.json["detail"]) == (503, "the broker does not answer")


def test_metrics_are_the_brokers_figures_and_the_own_requests(broker, gateway):
    """Names and values as documented, readable by Prometheus' own parser."""
    broker.figures = FIGURES
    gateway.post(REQUEST)
    answer = gateway.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    seen = samples(answer)
    assert seen["imgserve_jobs_total", ("state", "done")] == 5
    assert seen["imgserve_queue_length",] == 7
    assert seen["imgserve_credit",] == 13
    assert seen["imgserve_workers",] == 1
    assert seen["imgserve_stage_seconds_bucket", ("le", "1.0"), ("stage", "fetch")] == 6
    assert seen["imgserve_stage_seconds_bucket", ("le", "+Inf"), ("stage", "fetch")] == 7
    assert seen["imgserve_stage_seconds_count", ("stage", "fetch")] == 7
    assert seen["imgserve_stage_seconds_sum", ("stage", "fetch")] == 3.5
    labels = (("method", "POST"), ("route", "/"), ("status", "200"))
    assert seen["imgserve_http_requests_total", *labels] == 1
    assert seen["imgserve_broker_up",] == 1


def test_metrics_tell_how_many_descriptors_the_broker_has_left(broker, gateway):
    """An alarm needs both figures; an older broker that gives none has no such metrics."""
    broker.figures = FIGURES | {"descriptors": {"open": 37, "limit": 1024, "low": False}}
    seen = samples(gateway.ask("GET", "/metrics"))
    assert seen["imgserve_broker_descriptors_open",] == 37
    assert seen["imgserve_broker_descriptors_limit",] == 1024
    broker.figures = FIGURES
    names = {name for name, *_ in samples(gateway.ask("GET", "/metrics"))}
    assert not any("descriptors" in name for name in names)


def test_metrics_go_on_without_the_broker(broker, gateway):
    """They say that it does not answer."""
    broker.silent_stats = True
    answer = gateway.ask("GET", "/metrics")
    assert answer.status == 200
    assert samples(answer)["imgserve_broker_up",] == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nothing"), ("POST", "/nothing"), ("GET", "/jobs/a/b"), ("BREW", "/nothing")],
)
def test_an_unknown_path_is_404_in_json(gateway, method, path):
    """Whatever the method."""
    answer = gateway.ask(method, path)
    assert answer.status == 404
    assert answer.json["msg"] == "not found"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/jobs", "POST"),
        ("POST", "/jobs/a", "GET, DELETE"),
        ("POST", "/healthz", "GET, HEAD"),
        ("PUT", "/metrics", "GET, HEAD"),
        ("BREW", "/readyz", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_405_with_the_right_ones(gateway, method, path, allow):
    """RFC 9110, 15.5.6."""
    answer = gateway.ask(method, path)
    assert answer.status == 405
    assert answer.headers["Allow"] == allow
    assert answer.json == {"msg": "method not allowed"}


@pytest.mark.parametrize("path", ["/", "/jobs/never", "/nothing", "/healthz", "/metrics"])
def test_every_answer_has_the_security_headers_and_no_version(gateway, path):
    """No sniffing, no caching, no server string."""
    headers = gateway.ask("GET", path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers
    assert "Etag" not in headers


def test_garbage_instead_of_http_is_answered_and_closed(gateway):
    """400, and the next request is served."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as raw:
        raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
        assert raw.recv(100) == b""
    assert gateway.ask("GET", "/healthz").status == 200


def test_the_access_log_names_the_job_and_no_urls(gateway, caplog):
    """One line a request: method, route, status, job id, milliseconds."""
    caplog.set_level(logging.INFO, "imgserve.gateway")
    answer = gateway.post({**REQUEST, "srcURL": "http://me:secret@there/a.png"}, "/?token=secret")
    job_id = answer.headers["Location"].removeprefix("/jobs/")
    # The line is written after the answer.
    lines = eventually(lambda: [text for text in caplog.messages if "POST" in text])
    assert len(lines) == 1
    assert lines[0].startswith(f"POST /: 200, job {job_id}, ")
    assert "secret" not in caplog.text


def test_queue_counts_what_waits_and_what_runs(broker, gateway):
    """An autoscaler reads plain JSON; without a broker it gets an error, and changes nothing."""
    broker.figures = FIGURES
    answer = gateway.ask("GET", "/queue")
    assert (answer.status, answer.json) == (200, {"queued": 7, "running": 3, "total": 10})
    broker.silent_stats = True
    assert gateway.ask("GET", "/queue").status == 503


def test_each_worker_has_metrics(broker, gateway):
    """Slots, busy slots, jobs, CPU and memory of every worker, by host and pid."""
    worker = {"incarnation": "w", "host": "n1", "pid": 7, "slots": 8, "busy": 2, "jobs_ended": 40}
    vitals = {"cpu_s": 1.5, "rss_bytes": 9e6}
    broker.figures = FIGURES | {"workers": [worker | {"vitals": vitals}]}
    seen = samples(gateway.ask("GET", "/metrics"))
    who = (("host", "n1"), ("pid", "7"))
    assert seen["imgserve_worker_slots", *who] == 8
    assert seen["imgserve_worker_busy", *who] == 2
    assert seen["imgserve_worker_jobs_total", *who] == 40
    assert seen["imgserve_worker_cpu_seconds_total", *who] == 1.5
    assert seen["imgserve_worker_rss_bytes", *who] == 9e6

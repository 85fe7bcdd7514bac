"""Requests that a page of another site makes a browser send."""

from __future__ import annotations

import json

import pytest

from imgserve.gateway.origins import HostNames
from tests.support.gateway_run import REQUEST, GatewayRun

CROSS_SITE = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://localhost.evil.example"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
)
OWN = (
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost:8080", "Host": "localhost"},
    {"Origin": "https://localhost", "Host": "localhost:1"},
)


@pytest.mark.parametrize("headers", CROSS_SITE)
@pytest.mark.parametrize("path", ["/", "/jobs"])
def test_request_of_another_site_is_not_carried_out(broker, gateway, path: str, headers):
    """Whatever it says that its body is."""
    submits = broker.submits
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        more = {"Content-Type": kind} | headers
        answer = gateway.post(json.dumps(REQUEST), path, **more)
        assert answer.status == 403
        assert "another site" in answer.json["detail"]
    assert gateway.ask("DELETE", "/jobs/some", **headers).status == 403
    assert broker.submits == submits


@pytest.mark.parametrize("headers", OWN)
def test_other_clients_are_asked_nothing(gateway, headers):
    """Neither programs nor a page of the service itself."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        more = {"Content-Type": kind} | headers
        assert gateway.post(json.dumps(REQUEST), **more).status == 200


def test_jobs_takes_json_alone(gateway):
    """With its type, with curl's, or with none."""
    for kind, status in (
        ("application/json", 202),
        ("Application/JSON; charset=utf-8", 202),
        ("application/x-www-form-urlencoded", 202),
        ("text/plain", 415),
        ("multipart/form-data; boundary=a", 415),
    ):
        answer = gateway.post(json.dumps(REQUEST), "/jobs", **{"Content-Type": kind})
        assert answer.status == status
    assert gateway.post(json.dumps(REQUEST), "/jobs").status == 202


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"])
def test_service_on_loopback_is_called_by_its_own_names(gateway, host: str):
    """DNS rebinding: the page's own name leads to loopback."""
    for path in ("/queue", "/metrics", "/jobs/none"):
        answer = gateway.ask("GET", path, Host=host)
        assert answer.status == 421
        assert "--host-name" in answer.json["detail"]
        assert gateway.ask("GET", path, Host=host, port=gateway.probe_port).status in (404, 421)
    assert gateway.ask("GET", "/healthz", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "a.localhost", "127.9.9.9", "[::1]:8"]
)
def test_its_own_names_are_permitted(gateway, host: str):
    """With any port: a proxy may have another."""
    assert gateway.ask("GET", "/jobs/none", Host=host).status == 404


def test_named_hosts_are_permitted(broker):
    """Behind a proxy that keeps the clients' Host header."""
    with GatewayRun(broker.path, host="127.0.0.1", host_name=("img.example",)) as run:
        assert run.ask("GET", "/jobs/none", Host="IMG.example").status == 404
        assert run.ask("GET", "/jobs/none", Host="localhost").status == 404
        assert run.ask("GET", "/jobs/none", Host="other.example").status == 421


def test_names_of_a_service_that_is_open_to_others():
    """By default it answers to every name; once some are named, to those."""
    assert HostNames.of("0.0.0.0", ()).include("any.example")  # noqa: S104 (nothing is bound)
    named = HostNames.of("10.0.0.1", ("img.example",))
    assert [named.include(host) for host in ("img.example:80", "any.example", "[")] == [
        True, False, False,
    ]  # fmt: skip
    assert HostNames.of("127.0.0.1", ("*",)).include("any.example")

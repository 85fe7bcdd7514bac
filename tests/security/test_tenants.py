"""Whose jobs a token sees: every verb, on every job, with every token."""

from __future__ import annotations

import re

import pytest

from tests.security.test_http_tokens import bearer, token
from tests.support.broker_double import BrokerDouble, queue_only
from tests.support.gateway_run import REQUEST, GatewayRun

TOKENS = ("a", "b", "operator")
OPERATOR = {"operator": ("--operator",)}


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    """A gateway, and the headers of each token."""
    with BrokerDouble(tmp_path_factory.mktemp("tenants"), script=queue_only) as double:
        headers = {
            name: bearer(token(double.folder, "new", name, *OPERATOR.get(name, ())))
            for name in TOKENS
        }
        with GatewayRun(double.path) as run:
            yield run, headers


def submitted(tenants, name: str, key: str = "") -> str:
    """Submit a job as a token; return its id."""
    gateway, headers = tenants
    more = {"Idempotency-Key": key} if key else {}
    answer = gateway.post(REQUEST, "/jobs", **headers[name], **more)
    assert answer.status == 202, answer
    return answer.json["id"]


@pytest.mark.parametrize("whose", TOKENS)
@pytest.mark.parametrize("who", TOKENS)
@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_job_is_seen_by_its_own_token_and_by_operators(tenants, who: str, whose: str, verb: str):
    """To anyone else it is not there."""
    gateway, headers = tenants
    job_id = submitted(tenants, whose)
    permitted = who in (whose, "operator")
    answer = gateway.ask(verb, f"/jobs/{job_id}", **headers[who])
    assert answer.status == ({"GET": 200, "DELETE": 202}[verb] if permitted else 404)
    if permitted:
        assert answer.json["id"] == job_id
    assert gateway.ask(verb, f"/jobs/{job_id}").status == 401
    still = gateway.ask("GET", f"/jobs/{job_id}", **headers[whose]).json["state"]
    assert permitted or still == "queued"


@pytest.mark.parametrize("who", ["a", "b"])
def test_key_is_the_tokens_own(tenants, who: str):
    """The same key of two tokens is two jobs; each finds its own by it."""
    gateway, headers = tenants
    ids = {name: submitted(tenants, name, "order-1") for name in ("a", "b")}
    assert ids["a"] != ids["b"]
    assert submitted(tenants, who, "order-1") == ids[who]
    assert gateway.ask("GET", "/jobs/order-1", **headers[who]).json["id"] == ids[who]
    conflict = REQUEST | {"srcURL": "http://there/other.png"}
    more = {"Idempotency-Key": "order-1"}
    assert gateway.post(conflict, "/jobs", **headers[who], **more).status == 409
    assert gateway.post(conflict, **headers[who], **more).json["code"] == 115


def test_ids_tell_and_promise_nothing(tenants):
    """128 random bits each; no part is the token, its hash, or the key."""
    ids = {submitted(tenants, "a") for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch(r"[0-9a-f]{16}\.[0-9a-f]{32}", job_id) for job_id in ids)
    assert "order-2" not in submitted(tenants, "a", "order-2")

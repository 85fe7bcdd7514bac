"""The history checker catches each kind of violation, and passes what is right."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.chaos_lib.history import History, Record, Window, violations
from scripts.chaos_lib.jobs import Flavour


def event(t: float, state: str, code: int = 0) -> dict[str, Any]:
    """A line of the native ledger."""
    return {"t": t, "what": "event", "job": "j", "state": state, "code": code}


def answer(t: float, status: int, method: str = "POST", **document: Any) -> dict[str, Any]:
    """A line of the HTTP ledger."""
    return {
        "t": t,
        "what": "answer",
        "job": "j",
        "method": method,
        "status": status,
        "retry_after": None,
        "document": document,
    }


def good(**changed: Any) -> History:
    """A job that went well."""
    fields: dict[str, Any] = {
        "job_id": "j",
        "lines": [event(1, "queued"), event(2, "accepted"), event(3, "done")],
        "record": Record(state="done", accepted=True),
        "content": "final",
        "uploads": [(1.5, "processing"), (2.5, "final")],
    }
    return History(**(fields | changed))


FAILED = Record(state="failed", code=401, detail="it cannot be decoded", accepted=True)
REJECTED = Record(state="rejected", code=201, detail="there is no such source")
CANCELLED = Record(state="cancelled", code=406, detail="cancelled")

RIGHT = {
    "done": good(),
    "told the end twice alike": good(lines=[event(1, "done"), event(2, "done")]),
    "missing source": good(
        flavour=Flavour.MISSING, lines=[event(1, "rejected", 201)], record=REJECTED,
        content="absent", uploads=[],
    ),
    "broken source": good(
        flavour=Flavour.BROKEN, lines=[event(1, "failed", 401)], record=FAILED, content="failed",
    ),
    "cancelled in the queue": good(
        flavour=Flavour.CANCEL, lines=[event(1, "cancelled", 406)], record=CANCELLED,
        content="absent", uploads=[],
    ),
    "conflict that was meant": good(
        flavour=Flavour.OTHER,
        lines=[event(1, "done"), {"t": 2, "what": "refused", "job": "j", "reason": "conflict"}],
    ),
    "503 that asks to wait": good(lines=[answer(1, 503) | {"retry_after": "1"}]),
    "cancel that came too late": good(lines=[answer(4, 409, "DELETE", state="done")]),
    "never taken": good(lines=[], record=None, content="absent", uploads=[]),
}  # fmt: skip

WRONG = {
    "stuck: unresolved": ("stuck", good(lines=[{"t": 9, "what": "unresolved", "job": "j"}])),
    "stuck in the journal": ("stuck", good(record=Record(state="queued"))),
    "lost after queued": ("lost", good(lines=[event(1, "queued")], record=None)),
    "two ends on events": ("two ends", good(lines=[event(1, "done"), event(2, "failed", 401)])),
    "two codes": (
        "two ends",
        good(lines=[event(1, "failed", 401), event(2, "failed", 403)], record=FAILED),
    ),
    "journal says otherwise": ("two ends", good(lines=[event(1, "failed", 401)])),
    "rejected after accepted": (
        "went back",
        good(lines=[event(1, "accepted"), event(2, "rejected", 201)], record=REJECTED),
    ),
    "rejected over HTTP after accepted": (
        "went back",
        good(lines=[answer(1, 200, dstURL="u"), answer(2, 200, code=201)], record=REJECTED),
    ),
    "placeholder left by a done job": ("destination", good(content="processing")),
    "nothing at the destination": ("destination", good(content="absent")),
    "other bytes at the destination": ("destination", good(content="other")),
    "failure placeholder of a done job": ("destination", good(content="failed")),
    "placeholder left by a failed job": (
        "destination", good(flavour=Flavour.BROKEN, record=FAILED, content="processing"),
    ),
    "placeholder left by a rejected job": (
        "destination", good(flavour=Flavour.MISSING, record=REJECTED, content="processing"),
    ),
    "placeholder left by a cancelled job": (
        "destination", good(flavour=Flavour.CANCEL, record=CANCELLED, content="processing"),
    ),
    "failed without a cause": (
        "cause", good(flavour=Flavour.BROKEN, record=Record(state="failed"), content="failed"),
    ),
    "healthy job that failed": ("verdict", good(record=FAILED, content="failed")),
    "broken job that is done": ("verdict", good(flavour=Flavour.BROKEN)),
    "late placeholder": (
        "placeholder", good(uploads=[(1.5, "processing"), (2.2, "processing"), (2.5, "final")]),
    ),
    "conflict that nobody meant": (
        "conflict", good(lines=[{"t": 2, "what": "refused", "job": "j", "reason": "conflict"}]),
    ),
    "500": ("HTTP", good(lines=[answer(1, 500)])),
    "404 for a job that was accepted": ("HTTP", good(lines=[answer(1, 404, "GET")])),
    "503 without Retry-After": ("HTTP", good(lines=[answer(1, 503)])),
    "client error": ("client", good(lines=[{"t": 1, "what": "raised", "detail": "KeyError"}])),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_passes(name):
    """Nothing is found in a history that keeps every promise."""
    assert violations(RIGHT[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_history_is_caught(name):
    """A history that breaks one promise is named with that promise."""
    promise, history = WRONG[name]
    assert promise in {violation.promise for violation in violations(history)}


BROKEN = {"t": 10.0, "began": 8.0, "what": "broken", "job": "j", "detail": "reset"}


@pytest.mark.parametrize(
    ("window", "excused"),
    [
        (Window(9.0, 9.5), True),
        (Window(7.0, 8.0), True),
        (Window(10.0, 11.0), True),
        (Window(6.0, 7.9), False),
        (Window(10.1, 11.0), False),
    ],
)
def test_a_broken_connection_needs_a_killed_gateway(window, excused):
    """A connection may break only while the gateway that carried it was killed."""
    found = violations(good(lines=[event(3, "done"), BROKEN]), [window])
    assert [violation.promise for violation in found] == ([] if excused else ["HTTP"])


def test_two_dead_pixel_processes_excuse_a_failure():
    """A healthy job may fail when the run itself killed its pixel processes again and again."""
    record = Record(state="failed", code=405, detail="died too often", accepted=True, crashes=3)
    history = good(record=record, content="failed", lines=[event(3, "failed", 405)])
    assert violations(history) == []

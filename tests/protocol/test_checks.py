"""Every field of a message is checked: at its limit, one before, one beyond."""

from __future__ import annotations

from math import inf, nan
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserve.errors import ProtocolError
from imgserve.protocol import checks, events, jobs, lane, reports
from imgserve.protocol.codec import (
    EVENTS,
    FRAME_LIMIT_BYTES,
    JOBS,
    LANE,
    PROTOCOL_VERSION,
    REPORTS,
    VersionMismatch,
    decode_event,
)

CODECS = (JOBS, REPORTS, LANE, EVENTS)

LIMITS = [
    (
        checks.identifier,
        ["a", "x" * 63, "x" * 64, "A-Z_a.z:0"],
        ["", "x" * 65, "a b", "ü", 1, None],
    ),
    (checks.integer, [0, 1, 2**53 - 1, 2**53], [-1, 2**53 + 1, True, 1.0, "1", None]),
    (checks.number, [0, 0.5, 9.9e17], [-0.1, 1e18, inf, nan, True, "1", None]),
    (checks.boolean, [True, False], [0, 1, None, "true"]),
    (checks.text, ["", "x" * 4095, "x" * 4096], ["x" * 4097, b"x", None, 1]),
    (checks.blob, [b"", b"x" * 65535, b"x" * 65536], [b"x" * 65537, "x", None]),
    (checks.identifiers, [(), ("a",) * 9999, ("a",) * 10_000], [("a",) * 10_001, ("",), ["a"]]),
    (checks.integers, [(), (0, 1)], [(-1,), ("1",), [1], (0,) * 10_001]),
    (checks.texts, [(), ("a",)], [(1,), ["a"], ("x" * 4097,)]),
    (checks.attempts, [(), (("a", 1),)], [(("a",),), (("a", -1),), ("ab",), [("a", 1)]]),
    (checks.numbers, [{}, {"x" * 64: 1}], [{"x" * 65: 1}, {"x": -1}, {1: 1}, None]),
    (checks.numbers, [{str(n): 1 for n in range(64)}], [{str(n): 1 for n in range(65)}]),
    (checks.document, [{}, {"a": [1, {}]}], [{1: 1}, None, []]),
]


@pytest.mark.parametrize(("check", "good", "bad"), LIMITS)
def test_a_check_takes_its_limit_and_nothing_beyond(check, good, bad):
    """N-1 and N pass, N+1 and other types do not; the field is named."""
    for value in good:
        check("field", value)
    for value in bad:
        with pytest.raises(ProtocolError, match=r"^field "):
            check("field", value)


SUBMIT = {"job_id": "j", "submitter": "t", "priority": 0, "payload": b""}
JOB = dict(zip(lane.Job.__slots__, ("e", "j", 1, b"", False, False, 0, ""), strict=True))
STATE = {"epoch": "e", "seq": 1, "job_id": "j", "state": "queued"}
BOUNDS = [
    (jobs.Submit, SUBMIT, "priority", [-100, 100], [-101, 101]),
    (lane.Job, JOB, "verdict", [0, 999], [-1, 1000]),
    (lane.Job, JOB, "accepted", [True], [1]),
    (reports.Hello, dict(zip(("incarnation", "host", "pid", "slots", "version", "pixel_pids"),
                             ("w", "h", 1, 1, "1", ()), strict=True)),
     "slots", [1, 10_000], [0, 10_001]),
    (events.JobState, STATE, "state", list(events.State), ["", "ended", 1, None]),
    (events.JobState, STATE, "dst_url", ["x" * 131_072], ["x" * 131_073]),
    (events.JobState, STATE, "code", [0, 999], [-1, 1000]),
    (events.Refused, {"epoch": "e", "seq": 1, "job_id": "j", "reason": "unknown", "detail": ""},
     "reason", list(events.Refusal), ["", "no", None]),
    (jobs.Dead, {"submitter": "t", "action": "show", "job_id": "j"}, "action",
     list(jobs.DeadAction), ["", "shoot", None]),
    (jobs.Dead, {"submitter": "t", "action": "list", "job_id": ""}, "job_id", ["", "a"], [" ", 1]),
    (jobs.Dead, {"submitter": "t", "action": "drop", "job_id": "a"}, "job_id", ["a"], [""]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "name", "good", "bad"), BOUNDS)
def test_a_field_takes_what_is_allowed_and_nothing_else(kind, fields, name, good, bad):
    """Each message checks itself when it is made, or when it is read."""
    for value in good:
        assert getattr(_checked(kind(**{**fields, name: value})), name) == value
    for value in bad:
        with pytest.raises(ProtocolError):
            _checked(kind(**{**fields, name: value}))


def _checked(message: Any) -> Any:
    if type(message) in (*get_args(lane.LaneMessage), *get_args(events.EventsMessage)):
        message.check()
    return message


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (LANE, lane.Ack("no epoch", (1,))),
        (LANE, lane.CancelJob("e", "j", -1)),
        (EVENTS, events.JobState("e", 1, "j", "lost")),
        (EVENTS, events.BrokerBeat("e", -1.0, False)),
    ],
)
def test_what_the_broker_says_is_checked_by_who_reads_it(codec, message):
    """It makes too many of them to check each, and of what it has checked already."""
    frame = codec.encode(message)
    with pytest.raises(ProtocolError):
        codec.decode(frame)


identifiers = st.from_regex(r"\A[A-Za-z0-9_.:-]{1,64}\Z")
counts = st.integers(0, 2**53)


@given(identifiers, identifiers, st.integers(-100, 100), st.binary(max_size=2000))
def test_every_submit_makes_the_round_trip(job_id, submitter, priority, payload):
    """What is encoded is decoded as it was."""
    message = jobs.Submit(job_id, submitter, priority, payload)
    assert JOBS.decode(JOBS.encode(message)) == message


@given(
    identifiers, counts, st.text(max_size=200), st.dictionaries(st.text(max_size=20), counts),
    st.lists(st.tuples(identifiers, counts), max_size=20).map(tuple),
)  # fmt: skip
def test_every_report_makes_the_round_trip(name, count, words, figures, running):
    """Text of any script, maps, pairs."""
    for message in (
        reports.Beat(name, name, count, running, (count,), figures),
        reports.Done(name, name, count, name, count, words, count, count, count, figures),
        reports.Returned(name, name, count, name, count, 999, words, "crashed", 0.5),
    ):
        assert REPORTS.decode(REPORTS.encode(message)) == message


@given(
    identifiers, counts, st.sampled_from(events.State), st.lists(st.text(max_size=99)).map(tuple)
)
def test_every_state_makes_the_round_trip(name, count, state, reasons):
    """Also the fields with defaults."""
    message = events.JobState(name, count, name, state, reasons=reasons)
    assert EVENTS.decode(EVENTS.encode(message)) == message


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_protocol_error(frame):
    """Nothing else ever comes of a frame."""
    _decode_everywhere(frame)


@given(st.sampled_from([kind for codec in CODECS for kind in codec._by_kind]), st.lists(values))
def test_any_fields_are_a_message_or_a_protocol_error(kind, fields):
    """Also where version and kind are right."""
    _decode_everywhere(msgpack.packb([PROTOCOL_VERSION, kind, *fields]))


@given(st.integers(0, 60))
def test_a_truncated_frame_is_a_protocol_error(length):
    """A frame is whole or nothing."""
    frame = REPORTS.encode(reports.Hello("w1", "host", 7, 8, "1.0", (9, 10)))
    if length < len(frame):
        with pytest.raises(ProtocolError):
            REPORTS.decode(frame[:length])


def _decode_everywhere(frame: bytes) -> None:
    for decode in (*(codec.decode for codec in CODECS), decode_event):
        try:
            decode(frame)
        except ProtocolError:
            continue


@pytest.mark.parametrize("version", [0, 2, 99, "1", None, [1]])
def test_another_version_is_told_apart(version):
    """With the kind and the sender, so that the sender can be told."""
    frame = msgpack.packb([version, "hello", "w1", "whatever"])
    with pytest.raises(VersionMismatch) as caught:
        REPORTS.decode(frame)
    assert (caught.value.kind, caught.value.sender) == ("hello", "w1")


def test_a_frame_beyond_the_limit_is_refused_unread():
    """The limit is the socket's too."""
    with pytest.raises(ProtocolError, match="more than"):
        JOBS.decode(b"\x00" * (FRAME_LIMIT_BYTES + 1))


def test_fields_at_the_end_with_defaults_may_be_left_out():
    """So a later version may add some."""
    frame = msgpack.packb([PROTOCOL_VERSION, "state", "e1", 1, "j1", "queued"])
    assert EVENTS.decode(frame) == events.JobState("e1", 1, "j1", "queued")

"""Golden bytes of every message kind: a change of these is a change of the protocol."""

from __future__ import annotations

import pytest

from imgserve.errors import ProtocolError
from imgserve.protocol import events, jobs, lane, reports
from imgserve.protocol.codec import EVENTS, JOBS, LANE, REPORTS, decode_event, encode_event

GOLDEN = [
    (
        JOBS,
        jobs.Submit("j1", "t1", -5, b"{}"),
        "9601a67375626d6974a26a31a27431fbc4027b7d",
    ),
    (
        JOBS,
        jobs.Cancel("j1", "t1"),
        "9401a663616e63656ca26a31a27431",
    ),
    (
        JOBS,
        jobs.Replay("t1", ("j1", "j2")),
        "9401a67265706c6179a2743192a26a31a26a32",
    ),
    (
        JOBS,
        jobs.AskStats("t1"),
        "9301a961736b5f7374617473a27431",
    ),
    (
        JOBS,
        jobs.Dead("t1", "show", "j1"),
        "9501a464656164a27431a473686f77a26a31",
    ),
    (
        REPORTS,
        reports.Hello("w1", "host", 7, 8, "1.0", (9, 10), (), ("w0",)),
        "9a01a568656c6c6fa27731a4686f73740708a3312e3092090a9091a27730",
    ),
    (
        REPORTS,
        reports.Beat("w1", "e1", 3, (("j1", 2),), (9,), {"cpu_s": 0.5}),
        "9801a462656174a27731a26531039192a26a3102910981a56370755f73cb3fe0000000000000",
    ),
    (
        REPORTS,
        reports.Accepted("w1", "e1", 4, "j1", 2, "http://d/a.png"),
        "9801a86163636570746564a27731a2653104a26a3102ae687474703a2f2f642f612e706e67",
    ),
    (
        REPORTS,
        reports.Rejected("w1", "e1", 4, "j1", 2, 203, "small"),
        "9901a872656a6563746564a27731a2653104a26a3102cccba5736d616c6c",
    ),
    (
        REPORTS,
        reports.Done("w1", "e1", 4, "j1", 2, "http://d/a.png", 3, 2, 99, {"total": 1.5}),
        (
            "9c01a4646f6e65a27731a2653104a26a3102ae687474703a2f2f642f612e706e6703026381a5746f7461"
            "6ccb3ff8000000000000"
        ),
    ),
    (
        REPORTS,
        reports.Failed("w1", "e1", 4, "j1", 2, 401, "broken"),
        "9901a66661696c6564a27731a2653104a26a3102cd0191a662726f6b656e",
    ),
    (
        REPORTS,
        reports.Returned("w1", "e1", 4, "j1", 2, 201, "slow", "transient", 1.5),
        (
            "9b01a872657475726e6564a27731a2653104a26a3102ccc9a4736c6f77a97472616e7369656e74cb3ff8"
            "000000000000"
        ),
    ),
    (
        REPORTS,
        reports.Bye("w1", "drained"),
        "9401a3627965a27731a7647261696e6564",
    ),
    (
        LANE,
        lane.Job("e1", "j1", 2, b"{}", True, False, 406, "cancelled"),
        "9a01a36a6f62a26531a26a3102c4027b7dc3c2cd0196a963616e63656c6c6564",
    ),
    (
        LANE,
        lane.CancelJob("e1", "j1", 2),
        "9501aa63616e63656c5f6a6f62a26531a26a3102",
    ),
    (
        LANE,
        lane.Ack("e1", (3, 4)),
        "9401a361636ba26531920304",
    ),
    (
        LANE,
        lane.Drain("e1", "restart"),
        "9401a5647261696ea26531a772657374617274",
    ),
    (
        EVENTS,
        events.Welcome("e1", "w1", "tcp://h:1", 5, 1),
        "9701a777656c636f6d65a26531a27731a97463703a2f2f683a310501",
    ),
    (
        EVENTS,
        events.TurnedAway("e1", "w1", True, "version"),
        "9601ab7475726e65645f61776179a26531a27731c3a776657273696f6e",
    ),
    (
        EVENTS,
        events.JobState(
            "e1", 1, "j1", "done", "http://d/a.png", 0, "", 2, ("slow",), {"total": 1.5}, 3, 2, 99
        ),
        (
            "9f01a57374617465a2653101a26a31a4646f6e65ae687474703a2f2f642f612e706e6700a00291a4736c"
            "6f7781a5746f74616ccb3ff8000000000000030263"
        ),
    ),
    (
        EVENTS,
        events.Refused("e1", 2, "j1", "conflict", "used"),
        "9701a772656675736564a2653102a26a31a8636f6e666c696374a475736564",
    ),
    (
        EVENTS,
        events.BrokerBeat("e1", 1, False),
        "9501ab62726f6b65725f62656174a2653101c2",
    ),
    (
        EVENTS,
        events.Stats("e1", {"credit": 3}),
        "9401a57374617473a2653181a663726564697403",
    ),
    (
        EVENTS,
        events.DeadLetters("e1", ({"id": "j1"},), ""),
        "9501ac646561645f6c657474657273a265319181a26964a26a31a0",
    ),
]
NAMES = [type(message).KIND for _, message, _ in GOLDEN]


@pytest.mark.parametrize(("codec", "message", "frame"), GOLDEN, ids=NAMES)
def test_a_message_is_encoded_as_these_bytes(codec, message, frame):
    """Version, kind, fields in order, as one msgpack array."""
    assert codec.encode(message).hex() == frame


@pytest.mark.parametrize(("codec", "message", "frame"), GOLDEN, ids=NAMES)
def test_these_bytes_are_decoded_as_the_message(codec, message, frame):
    """What another language sends is read."""
    assert codec.decode(bytes.fromhex(frame)) == message


def test_every_kind_has_golden_bytes():
    """A new kind needs a row here."""
    kinds = {kind for codec in (JOBS, REPORTS, LANE, EVENTS) for kind in codec._by_kind}
    assert set(NAMES) == kinds


@pytest.mark.parametrize(("codec", "message", "frame"), GOLDEN, ids=NAMES)
def test_a_kind_belongs_on_one_socket(codec, message, frame):
    """Elsewhere it is refused."""
    for other in (JOBS, REPORTS, LANE, EVENTS):
        if other is not codec:
            with pytest.raises(ProtocolError, match="no kind that belongs on this socket"):
                other.decode(bytes.fromhex(frame))


def test_an_event_carries_its_topic_and_a_space():
    """So that a subscription to `ab ` does not hear `abc`."""
    beat = events.BrokerBeat("e1", 1, False)
    frame = encode_event("beat", beat)
    assert frame.startswith(b"beat \x95")
    assert decode_event(frame) == ("beat", beat)

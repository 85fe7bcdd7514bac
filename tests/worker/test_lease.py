"""The worker's lease: always over before the broker's."""

from __future__ import annotations

import pytest

from imgserve.worker.lease import Lease

# Each step: (what, when, expires at), for a lease of 5 s welcomed at 100: 4 s are safe.
STEPS = [
    ("welcome", 100.0, 104.0),
    ("sent 1", 101.0, 104.0),
    ("sent 2", 102.0, 104.0),
    ("ack 2", 103.9, 106.0),
    ("ack 1", 104.0, 106.0),
    ("ack 99", 104.0, 106.0),
    ("sent 3", 105.0, 106.0),
    ("ack 3", 105.9, 109.0),
]


def test_it_runs_from_the_sending_of_the_beat_that_is_acknowledged():
    """Late, repeated and foreign acknowledgements never lengthen a lease."""
    lease = Lease(5.0, now_s=100.0)
    for what, now_s, expires_at_s in STEPS:
        kind, _, seq = what.partition(" ")
        if kind == "sent":
            lease.sent(int(seq), now_s)
        elif kind == "ack":
            lease.acknowledged([int(seq)])
        assert lease.expires_at_s == expires_at_s, what


@pytest.mark.parametrize(("now_s", "valid"), [(103.999, True), (104.0, False), (104.001, False)])
def test_it_ends_at_four_fifths(now_s, valid):
    """Of the broker's 5 s the worker uses 4."""
    assert Lease(5.0, now_s=100.0).valid(now_s) is valid


def test_it_is_confirmed_by_the_first_acknowledged_beat():
    """A welcome alone does not say that the broker still counts on this worker."""
    lease = Lease(5.0, now_s=100.0)
    lease.acknowledged([1])
    assert not lease.confirmed
    lease.sent(1, 100.0)
    lease.acknowledged([1])
    assert lease.confirmed


def test_it_forgets_beats_that_can_renew_nothing():
    """Without any acknowledgement what is remembered stays small."""
    lease = Lease(5.0, now_s=0.0)
    for seq in range(1000):
        lease.sent(seq, float(seq))
    assert len(lease._sent) == 5

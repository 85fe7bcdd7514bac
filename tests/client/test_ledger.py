"""The ledger, as tables: events and times in, messages out."""

from __future__ import annotations

import pytest

from imgserve.client.ledger import Entry, Ledger, Timing
from imgserve.protocol.events import BrokerBeat, JobState, Refusal, Refused, State
from imgserve.protocol.jobs import Replay, Submit


def heard(**timing):
    """A ledger whose broker is alive at 0 s."""
    ledger = Ledger("me", Timing(**timing))
    ledger.hear_beat(beat(), 0.0)
    return ledger


def beat(epoch="e1", *, full=False):
    """A beat of the broker."""
    return BrokerBeat(epoch, 1.0, full)


def state(seq, job_id="a", what=State.QUEUED, epoch="e1", **fields):
    """An event on a job."""
    return JobState(epoch, seq, job_id, str(what), **fields)


def refused(seq, reason, job_id="a", epoch="e1"):
    """A refusal of a job."""
    return Refused(epoch, seq, job_id, str(reason), "so")


def add(ledger, job_id="a", now_s=0.0):
    """Add a job; returns its entry and what to send."""
    entry = Entry(job_id, b"{}")
    return entry, ledger.add(entry, now_s)


def keep_alive(ledger, now_s, epoch="e1"):
    """The broker beats."""
    ledger.hear_beat(beat(epoch), now_s)


def test_a_submit_waits_until_the_broker_is_heard():
    """Before the first sign of life the subscription may not be in place."""
    ledger = Ledger("me")
    _, message = add(ledger)
    assert message is None
    assert ledger.due(0.1) == []
    ledger.hear_beat(beat(), 0.2)
    assert ledger.due(0.2) == [Submit("a", "me", 0, b"{}")]


def test_an_unacknowledged_submit_goes_again_and_backs_off_to_the_longest_wait():
    """After 2, 4, 8, 16, 30, 30 seconds, with the same id."""
    ledger = heard()
    add(ledger)
    sent_s = []
    for tick in range(1, 1300):
        now_s = tick / 10
        keep_alive(ledger, now_s)
        sent_s += [now_s for message in ledger.due(now_s) if isinstance(message, Submit)]
    waits = [b - a for a, b in zip([0.0, *sent_s], sent_s, strict=False)]
    assert waits == pytest.approx([2, 4, 8, 16, 30, 30, 30], abs=0.15)


def test_an_acknowledged_submit_does_not_go_again():
    """Once queued it is durable."""
    ledger = heard()
    add(ledger)
    ledger.hear_state(state(1), 0.1)
    keep_alive(ledger, 20.0)
    assert ledger.due(20.0) == []
    assert ledger.unacknowledged == 0


def test_nothing_is_sent_again_while_the_broker_is_silent_or_full():
    """It could not read it."""
    ledger = heard()
    add(ledger)
    assert ledger.silent(3.1)
    assert ledger.due(10.0) == []
    ledger.hear_beat(beat(full=True), 11.0)
    assert ledger.due(11.0) == []
    ledger.hear_beat(beat(), 11.1)
    assert ledger.due(11.1) == [Submit("a", "me", 0, b"{}")]


def test_silence_is_told_once():
    """At three missed beats, not before, and not again."""
    ledger = heard()
    assert not ledger.silent(3.0)
    assert ledger.silent(3.01)
    assert not ledger.silent(4.0)


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_new_epoch_asks_for_everything(acknowledged):
    """Submits go again, acknowledged jobs are replayed: events of the change may be lost."""
    ledger = heard()
    add(ledger)
    if acknowledged:
        ledger.hear_state(state(1), 0.1)
    keep_alive(ledger, 1.0, "e2")
    again = Replay("me", ("a",)) if acknowledged else Submit("a", "me", 0, b"{}")
    assert ledger.due(1.0) == [again]


def test_a_recovery_is_paced():
    """A batch at a go, the rest later, nothing twice."""
    ledger = heard(batch=10)
    for number in range(25):
        add(ledger, f"j{number}")
    keep_alive(ledger, 1.0, "e2")
    sizes = []
    while ledger.pending:
        sizes.append(len(ledger.due(1.0)))
    assert sizes == [10, 10, 5]


@pytest.mark.parametrize(
    ("seqs", "gaps"), [((1, 2), 0), ((1, 3), 1), ((2,), 1), ((1, 1), 0), ((1, 2, 1), 1)]
)
def test_a_hole_in_the_sequence_asks_for_all_that_is_outstanding(seqs, gaps):
    """The lost event may have been of any job; a repeated one is no hole."""
    ledger = heard()
    add(ledger, "a")
    add(ledger, "b")
    for seq in seqs:
        ledger.hear_state(state(seq, "other"), 0.1)
    assert ledger.gaps == gaps
    assert ledger.due(0.1) == ([Replay("me", ("a", "b"))] if gaps else [])


def test_the_sequence_starts_again_in_a_new_epoch():
    """The first event of an epoch is number 1."""
    ledger = heard()
    ledger.hear_state(state(7), 0.1)
    gaps = ledger.gaps
    ledger.hear_state(state(1, epoch="e2"), 0.2)
    assert ledger.gaps == gaps
    ledger.hear_state(state(3, epoch="e2"), 0.3)
    assert ledger.gaps == gaps + 1


@pytest.mark.parametrize(
    ("heard_states", "furthest"),
    [
        ((State.ACCEPTED, State.DISPATCHED), State.ACCEPTED),
        ((State.DISPATCHED, State.QUEUED), State.DISPATCHED),
        ((State.DONE, State.ACCEPTED), State.DONE),
        ((State.DONE,), State.DONE),
    ],
)
def test_states_only_move_forward(heard_states, furthest):
    """Late and skipped states change nothing."""
    ledger = heard()
    entry, _ = add(ledger)
    for seq, what in enumerate(heard_states, 1):
        ledger.hear_state(state(seq, what=what), 0.1)
    assert entry.latest.state == furthest


@pytest.mark.parametrize("what", [State.DONE, State.FAILED, State.REJECTED, State.CANCELLED])
def test_an_ended_job_leaves_the_ledger(what):
    """Memory is bounded by what is under way."""
    ledger = heard()
    entry, _ = add(ledger)
    ledger.hear_state(state(1, what=what), 0.1)
    assert entry.over
    assert ledger.jobs == {}
    assert ledger.unacknowledged == 0


def test_a_job_unknown_to_the_broker_is_submitted_again():
    """With the same id and payload, acknowledged or not; a journal may have been lost."""
    ledger = heard()
    entry, _ = add(ledger)
    ledger.hear_state(state(1, what=State.ACCEPTED, dst_url="u"), 0.1)
    ledger.hear_refused(refused(2, Refusal.UNKNOWN), 0.2)
    assert ledger.due(0.2) == [Submit("a", "me", 0, b"{}")]
    assert (entry.latest, entry.dst_url, ledger.unacknowledged) == (None, "", 1)
    keep_alive(ledger, 2.5)
    assert ledger.due(2.5) == [Submit("a", "me", 0, b"{}")]


def test_a_watched_job_unknown_to_the_broker_is_over():
    """There is no payload to submit again."""
    ledger = heard()
    entry = Entry("a", None)
    assert ledger.add(entry, 0.0) == Replay("me", ("a",))
    ledger.hear_refused(refused(1, Refusal.UNKNOWN), 0.1)
    assert entry.over
    assert ledger.jobs == {}


def test_a_conflict_is_over():
    """The id is another job's."""
    ledger = heard()
    entry, _ = add(ledger)
    ledger.hear_refused(refused(1, Refusal.CONFLICT), 0.1)
    assert entry.over
    assert ledger.unacknowledged == 0


@pytest.mark.parametrize("reason", [Refusal.OVERLOADED, Refusal.DRAINING])
def test_a_job_refused_for_now_goes_again_with_backoff(reason):
    """It is not lost, and it does not hammer."""
    ledger = heard()
    entry, _ = add(ledger)
    ledger.hear_refused(refused(1, reason), 0.0)
    assert not entry.over
    keep_alive(ledger, 1.9)
    assert ledger.due(1.9) == []
    keep_alive(ledger, 4.1)
    assert ledger.due(4.1) == [Submit("a", "me", 0, b"{}")]


def test_a_quiet_job_is_asked_for_again_and_again():
    """The last net: each 30 s without news."""
    ledger = heard()
    add(ledger)
    ledger.hear_state(state(1), 0.0)
    asked_s = []
    for tick in range(1, 1000):
        now_s = tick / 10
        keep_alive(ledger, now_s)
        asked_s += [now_s for _ in ledger.due(now_s)]
    assert asked_s == pytest.approx([30, 60, 90], abs=3)


def test_a_dropped_job_is_forgotten():
    """Nothing is sent for it any more."""
    ledger = heard()
    entry, _ = add(ledger)
    ledger.drop(entry)
    keep_alive(ledger, 5.0)
    assert ledger.due(5.0) == []
    assert ledger.unacknowledged == 0


def test_a_job_that_is_watched_twice_is_dropped_with_its_last_watch():
    """Whoever repeats a request again and again leaves nothing behind."""
    ledger = heard()
    entry, _ = add(ledger)
    twin = Entry("a", b"{}")
    twin.follow(entry)
    ledger.hear_state(state(1), 0.1).tell()
    assert twin.latest.state == State.QUEUED
    ledger.drop(entry)
    assert "a" in ledger.jobs
    ledger.drop(twin)
    assert ledger.jobs == {}
    assert entry.followers == ()


def test_another_payload_under_the_id_of_a_dropped_job_is_a_conflict():
    """Until that job has ended: its events name the job, not its payload."""
    ledger = heard()
    entry, _ = add(ledger)
    ledger.hear_state(state(1), 0.1)
    ledger.drop(entry)
    assert ledger.is_conflict(Entry("a", b"another"))
    assert not ledger.is_conflict(Entry("a", b"{}"))
    assert not ledger.is_conflict(Entry("b", b"another"))
    ledger.hear_state(state(2, what=State.ACCEPTED), 0.2)
    assert ledger.is_conflict(Entry("a", b"another"))
    ledger.hear_state(state(3, what=State.DONE), 0.3)
    assert not ledger.is_conflict(Entry("a", b"another"))


def test_of_a_dropped_job_that_nobody_acknowledged_nothing_is_known():
    """The broker may never have heard of it."""
    ledger = heard()
    entry, _ = add(ledger)
    ledger.drop(entry)
    assert not ledger.is_conflict(Entry("a", b"another"))


def test_only_so_many_dropped_jobs_are_remembered(monkeypatch):
    """A gateway drops every job that it has answered for."""
    monkeypatch.setattr("imgserve.client.ledger.LEFT_LIMIT", 2)
    ledger = heard()
    for seq, job_id in enumerate("abc", 1):
        entry, _ = add(ledger, job_id)
        ledger.hear_state(state(seq, job_id), 0.1)
        ledger.drop(entry)
    assert [ledger.is_conflict(Entry(each, b"another")) for each in "abc"] == [False, True, True]

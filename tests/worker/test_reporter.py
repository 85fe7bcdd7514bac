"""Reports are kept until acknowledged, and said again ever more rarely."""

from __future__ import annotations

from imgserve.protocol.reports import Accepted
from imgserve.worker.reporter import Outbox


def report(seq: int, job_id: str = "j") -> Accepted:
    """Any report."""
    return Accepted("i", "e", seq, job_id, 1, "http://there/a.png")


def test_numbers_count_from_one():
    """Every report and beat of an incarnation has its own number."""
    outbox = Outbox()
    assert [outbox.next_seq() for _ in range(3)] == [1, 2, 3]


def test_a_report_is_due_again_after_one_two_four_and_then_eight_seconds():
    """The wait doubles up to its limit."""
    outbox = Outbox()
    outbox.add(report(1), 0.0)
    due = []
    now_s = 0.0
    while len(due) < 6:
        now_s = outbox.next_due_s
        assert outbox.due(now_s - 0.001) == []
        assert outbox.due(now_s) == [report(1)]
        due.append(now_s)
    assert due == [1, 3, 7, 15, 23, 31]


def test_an_acknowledged_report_is_returned_once_and_forgotten():
    """Only what waits can be acknowledged."""
    outbox = Outbox()
    outbox.add(report(1), 0.0)
    outbox.add(report(2), 0.0)
    assert outbox.acknowledge([2, 7]) == [report(2)]
    assert outbox.acknowledge([2]) == []
    assert outbox.due(10.0) == [report(1)]
    assert len(outbox) == 1


def test_reports_of_a_job_can_be_dropped():
    """An attempt that no longer counts leaves nothing behind."""
    outbox = Outbox()
    outbox.add(report(1, "a"), 0.0)
    outbox.add(report(2, "b"), 0.0)
    outbox.forget("a")
    assert outbox.due(10.0) == [report(2, "b")]


def test_with_nothing_to_say_nothing_is_ever_due():
    """An empty outbox has no deadline."""
    assert Outbox().next_due_s == float("inf")

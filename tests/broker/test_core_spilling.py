"""The line holds a window of the queue; the rest waits on disk and none is lost or doubled."""

from __future__ import annotations

import pytest

from imgserve.broker.job import Job
from imgserve.broker.line import Line
from imgserve.broker.states import Phase
from imgserve.protocol import reports
from tests.broker.core_bench import Bench


def work_off(bench: Bench, name: str) -> list[str]:
    """Let a worker end every job it gets; return their ids in order."""
    done: list[str] = []
    while len(bench.orders(name)) > len(done):
        job_id, attempt = bench.orders(name)[len(done)]
        bench.report(reports.Done, name, job_id, attempt=attempt)
        bench.commit()
        done.append(job_id)
    return done


@pytest.mark.parametrize("window", [1, 2, 3, 10])
def test_every_job_is_done_once_and_in_order(window):
    """However small the window."""
    bench = Bench(window=window)
    names = [f"j{number:02}" for number in range(30)]
    for name in names:
        bench.submit(name)
        bench.now_s += 1
    assert bench.core.line.ready_count <= 2 * window
    bench.join("w1")
    bench.commit()
    assert work_off(bench, "w1") == names
    assert len(bench.core.line) == 0
    assert bench.core.line.horizon is None


@pytest.mark.parametrize("window", [1, 2, 3, 10])
def test_a_recovered_queue_is_worked_off(window):
    """A new life begins with an empty memory and all jobs on disk."""
    first = Bench()
    names = [f"j{number:02}" for number in range(20)]
    for name in names:
        first.submit(name)
        first.now_s += 1
    second = Bench(rows=first.journal.rows, window=window)
    assert len(second.core.line) == 20
    second.join("w1", slots=3)
    second.commit()
    assert sorted(work_off(second, "w1")) == names


def test_jobs_submitted_while_others_lie_on_disk_are_not_lost():
    """Past the horizon they are counted, before it they are held."""
    bench = Bench(window=2)
    for number in range(10):
        bench.submit(f"a{number}", priority=number % 3)
        bench.now_s += 1
    bench.join("w1")
    for number in range(10):
        bench.submit(f"b{number}", priority=number % 5 - 2)
    bench.commit()
    assert len(work_off(bench, "w1")) == 20


def test_a_job_retried_past_the_horizon_hides_nothing_behind_it():
    """A spill never moves the horizon past jobs that only the disk holds."""
    bench = Bench(window=1, lease_s=1e6)
    for number in range(8):
        bench.submit(f"low{number}", priority=-90)
    bench.join("w1", slots=3)
    bench.commit()
    held = [name for name, _ in bench.orders("w1")]
    for number in range(4):
        bench.submit(f"high{number}", priority=90)
    for name in held:
        bench.report(reports.Returned, "w1", name, reason="drained")
    bench.commit()
    ended = set()
    while True:
        rest = [name for name in bench.core.fleet.workers["w1"].held if name not in ended]
        if not rest:
            break
        bench.report(reports.Done, "w1", rest[0], attempt=bench.core.jobs[rest[0]].attempt)
        ended.add(rest[0])
        bench.commit()
    assert len(ended) == 12


def test_jobs_spilled_while_a_load_is_under_way_are_not_lost():
    """What the load brings was read for a horizon that is no more."""
    bench = Bench(window=1, lease_s=1e6)
    bench.join("w1", slots=3)
    for number in range(3):
        bench.submit(f"high{number}")
    for number in range(6):
        bench.submit(f"low{number}", priority=-90)
    bench.join("w2")
    assert bench.core.line.loading
    bench.feed(reports.Bye("w1", "gone"))
    assert bench.core.line.on_disk
    bench.commit()
    assert len(work_off(bench, "w2")) == 9


def test_a_spilled_job_keeps_its_attempt():
    """Else a resent report of its first attempt would count for its second."""
    bench = Bench(window=1)
    bench.join("w1")
    bench.submit("a", priority=-90)
    for name in ("b", "c", "d"):
        bench.submit(name, priority=5)
    bench.report(reports.Returned, "w1", "a", reason="drained")
    bench.commit()
    for name in ("e", "f", "g"):
        bench.submit(name, priority=9)
    assert "a" not in bench.core.jobs
    while bench.orders("w1")[-1][0] != "a":
        name, attempt = bench.orders("w1")[-1]
        bench.report(reports.Done, "w1", name, attempt=attempt)
        bench.commit()
    assert bench.orders("w1")[-1] == ("a", 2)


def test_the_line_counts_what_waits_everywhere():
    """Ready, delayed and on disk."""
    bench = Bench(window=2, lease_s=1e6)
    bench.join("w1")
    for number in range(9):
        bench.submit(f"j{number}")
    bench.report(reports.Returned, "w1", "j0", delay_s=30.0)
    assert bench.core.line.delayed_count == 1
    assert len(bench.core.line) == 8
    assert bench.core.line.on_disk
    assert bench.core.line.ready_count


def test_a_spill_never_moves_the_horizon_forward():
    """What lies on disk between the old one and the new would never be read."""
    held: dict[str, Job] = {}
    line = Line(window=1, jobs=held)
    line.horizon, line.on_disk = (0.0, "x"), 3
    for rank in (5.0, 6.0, 7.0):
        job = Job(f"j{rank}", ("t",), 0, rank, b"", b"", phase=Phase.QUEUED)
        held[job.job_id] = job
        line.add(job)
    assert len(held) == 1
    assert line.horizon == (0.0, "x")

"""Jobs that name a tag of their worker, workers that leave, and two of one name."""

from __future__ import annotations

from imgserve.broker import line as line_module
from imgserve.broker.figures import figures_of
from imgserve.broker.job import job_of, row_of
from imgserve.protocol import jobs, reports
from imgserve.protocol.events import TurnedAway
from tests.broker.core_bench import EPOCH, TOPIC, Bench


def submit(bench, job_id, tag="", priority=0):
    """Submit a job with a tag."""
    bench.feed(jobs.Submit(job_id, TOPIC, priority, b"{}", tag))
    bench.commit()


def join(bench, name, *tags, slots=1):
    """Let a worker with tags join."""
    bench.feed(reports.Hello(name, "host", 1, slots, "1", (), tags))
    bench.beat(name)


def test_a_tagged_job_goes_to_a_worker_with_its_tag():
    """However much credit others have, they do not get it."""
    bench = Bench()
    join(bench, "plain", slots=9)
    join(bench, "zone", "a", "b")
    submit(bench, "job", "b")
    assert (bench.orders("plain"), bench.orders("zone")) == ([], [("job", 1)])


def test_a_job_without_a_tag_goes_anywhere():
    """Tags are what a worker has, not what it is kept for."""
    bench = Bench()
    join(bench, "zone", "a")
    submit(bench, "job")
    assert bench.orders("zone") == [("job", 1)]


def test_a_tagged_job_holds_up_nobody():
    """While its workers are full or missing, jobs behind it are done."""
    bench = Bench()
    join(bench, "plain", slots=3)
    for number in range(5):
        submit(bench, f"stuck{number}", "nowhere", priority=50)
    for number in range(3):
        submit(bench, f"job{number}")
    assert [job_id for job_id, _ in bench.orders("plain")] == ["job0", "job1", "job2"]
    figures = figures_of(bench.core, bench.now_s)
    assert (figures["queue_length"], figures["waiting_tags"]) == (5, {"nowhere": 5})


def test_tagged_jobs_wait_for_their_worker():
    """They go as soon as a worker with the tag has joined, best rank first."""
    bench = Bench()
    submit(bench, "later", "a")
    submit(bench, "first", "a", priority=10)
    join(bench, "zone", "a", slots=2)
    assert [job_id for job_id, _ in bench.orders("zone")] == ["first", "later"]


def test_rank_counts_across_tags():
    """Of jobs with and without a tag the better rank goes first."""
    bench = Bench()
    submit(bench, "low")
    submit(bench, "high", "a", priority=10)
    join(bench, "zone", "a")
    assert bench.orders("zone") == [("high", 1)]


def test_a_tagged_job_that_comes_back_keeps_its_tag():
    """A lost worker's tagged job waits for the tag again."""
    bench = Bench()
    join(bench, "zone", "a")
    submit(bench, "job", "a")
    join(bench, "plain", slots=9)
    bench.feed(reports.Bye("zone", "asked to end"))
    bench.commit()
    assert bench.orders("plain") == []
    join(bench, "other", "a")
    assert bench.orders("other") == [("job", 2)]


def test_a_tag_survives_the_broker():
    """The journal's row of a job that was never dispatched holds its tag."""
    bench = Bench()
    submit(bench, "job", "a")
    assert job_of(row_of(bench.core.jobs["job"])).tag == "a"
    again = Bench(rows=bench.journal.rows)
    again.commit()
    again.tick(1)
    again.commit()
    join(again, "plain", slots=9)
    join(again, "zone", "a")
    again.commit()
    assert (again.orders("plain"), again.orders("zone")) == ([], [("job", 1)])


def test_a_waiting_tagged_job_can_be_cancelled():
    """It leaves its line, and the counts with it."""
    bench = Bench()
    submit(bench, "job", "a")
    bench.cancel("job")
    assert bench.last("job").state == "cancelled"
    assert figures_of(bench.core, bench.now_s)["queue_length"] == 0
    assert figures_of(bench.core, bench.now_s)["waiting_tags"] == {}


def test_many_tagged_jobs_leave_the_window_alone():
    """More stuck jobs than the window holds do not keep spilled jobs from being loaded."""
    bench = Bench(window=4)
    for number in range(30):
        submit(bench, f"stuck{number:02}", "nowhere", priority=50)
    for number in range(30):
        submit(bench, f"job{number:02}")
    join(bench, "plain", slots=100)
    bench.commit()
    assert len(bench.orders("plain")) == 30


def test_tagged_jobs_are_bounded(monkeypatch):
    """At the limit a further one is refused as overload; one without a tag is taken."""
    monkeypatch.setattr("imgserve.broker.core.TAGGED_LIMIT", 2)
    assert line_module.TAGGED_LIMIT > 2
    bench = Bench()
    for number in range(3):
        submit(bench, f"job{number}", "a")
    submit(bench, "plain")
    assert bench.refusals() == [("job2", "overloaded")]
    assert bench.states("plain") == ["queued"]


def test_a_worker_that_leaves_gets_nothing_more():
    """Once a beat says that it is leaving, its free slots are no credit."""
    bench = Bench()
    join(bench, "w", slots=4)
    bench.feed(reports.Beat("w", EPOCH, bench.next_seq(), (), (), {"leaving": 1.0}))
    submit(bench, "job")
    assert bench.orders("w") == []
    assert figures_of(bench.core, bench.now_s)["credit"] == 0


def test_the_last_words_are_remembered():
    """Who left and why: said by itself, or found silent; the latest first, and not for ever."""
    bench = Bench(lease_s=5)
    join(bench, "polite")
    join(bench, "dead")
    bench.feed(reports.Bye("polite", "its lifetime is over"))
    bench.tick(6)
    first, second = figures_of(bench.core, bench.now_s)["departed"]
    assert (first["incarnation"], "silent for 5 s" in first["reason"]) == ("dead", True)
    assert (second["reason"], second["left_s"]) == ("its lifetime is over", 6)
    for number in range(200):
        join(bench, f"w{number}")
        bench.feed(reports.Bye(f"w{number}", "x"))
    assert len(figures_of(bench.core, bench.now_s)["departed"]) == 64


def test_two_processes_with_one_incarnation_are_sent_for_their_own():
    """A hello from another process is turned away, not finally, with both named."""
    bench = Bench()
    join(bench, "twin")
    bench.feed(reports.Hello("twin", "copy", 2, 1, "1", ()))
    [away] = [message for topic, message in bench.said if isinstance(message, TurnedAway)]
    assert not away.final
    assert "process 2 on copy and process 1 on host have one incarnation" in away.reason


def test_a_clock_that_is_off_is_seen_and_changes_nothing():
    """The worker's row says by how much; its lease and its jobs do not care."""
    bench = Bench()
    bench.feed(reports.Hello("w", "host", 1, 1, "1", ()))
    ahead = {"wall_s": bench.now_s + 3600}
    bench.feed(reports.Beat("w", EPOCH, bench.next_seq(), (), (), ahead))
    submit(bench, "job")
    [worker] = figures_of(bench.core, bench.now_s)["workers"]
    assert worker["clock_off_s"] == 3600
    assert bench.orders("w") == [("job", 1)]

"""What submitters may count on: durable once queued, idempotent, cancellable, replayable."""

from __future__ import annotations

import pytest

from imgserve.broker import actions as act
from imgserve.protocol import jobs, reports
from imgserve.protocol.events import JobState
from tests.broker.core_bench import TOPIC, Bench


def test_queued_is_said_only_after_the_commit():
    """Nothing is said of a job before the journal has it."""
    bench = Bench()
    bench.submit("a", commit=False)
    assert bench.states("a") == []
    bench.commit()
    assert bench.states("a") == ["queued"]


def test_a_job_is_dispatched_only_after_the_commit():
    """A worker with free slots gets a job once it is on disk, not before."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a", commit=False)
    assert bench.orders("w1") == []
    bench.commit()
    assert bench.orders("w1") == [("a", 1)]


def test_a_submit_again_while_it_is_stored_is_said_once_to_each_topic():
    """A resent submit joins the one on its way to the disk."""
    bench = Bench()
    bench.submit("a", commit=False)
    bench.submit("a", commit=False)
    bench.submit("a", topic="other", commit=False)
    bench.commit()
    assert bench.states("a") == ["queued"]
    assert bench.states("a", "other") == ["queued"]


def test_a_submit_again_in_memory_says_the_present_state():
    """Same id, same payload: where the job is now."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a")
    bench.submit("a", topic="other")
    assert bench.states("a", "other") == ["dispatched"]


def test_a_submit_again_of_an_ended_job_says_its_outcome():
    """Same id, same payload, after its end: the journal knows the outcome."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a")
    bench.report(reports.Done, "w1", "a")
    bench.commit()
    bench.submit("a", topic="other")
    state = bench.last("a", "other")
    assert (state.state, state.width_px, state.size_bytes) == ("done", 2, 4)
    assert bench.orders("w1") == [("a", 1)]


@pytest.mark.parametrize("where", ["storing", "memory", "ended"])
def test_the_same_id_with_another_payload_is_a_conflict(where):
    """Same id, other payload is refused, wherever the first one is."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a", commit=where != "storing")
    if where == "ended":
        bench.report(reports.Done, "w1", "a")
        bench.commit()
    bench.submit("a", payload=b"other", topic="thief")
    assert bench.refusals("thief") == [("a", "conflict")]
    assert bench.states("a", "thief") == []


def test_a_conflict_with_a_job_only_on_disk_is_refused():
    """The journal's digest tells too."""
    bench = Bench(window=1)
    for name in "abcdef":
        bench.submit(name)
    assert "f" not in bench.core.jobs
    bench.submit("f", payload=b"other", topic="thief")
    assert bench.refusals("thief") == [("f", "conflict")]


def test_a_submit_again_of_a_job_on_disk_hears_its_end():
    """Another topic that submits a job which waits on disk is told how it ended."""
    bench = Bench(window=1)
    for name in "abcdef":
        bench.submit(name)
    bench.submit("f", topic="other")
    bench.join("w1", slots=6)
    bench.commit()
    for name in "abcdef":
        bench.report(reports.Done, "w1", name)
    bench.commit()
    assert bench.states("f", "other")[-1] == "done"
    assert bench.states("f")[-1] == "done"


def test_a_full_disk_refuses_the_new_job_alone():
    """What could not be written is refused, and can be submitted again."""
    bench = Bench()
    bench.submit("a", commit=False)
    bench.journal.pending.clear()
    bench.feed(act.AppendFailed(("a",), "disk full"))
    assert bench.refusals() == [("a", "overloaded")]
    bench.submit("a")
    assert bench.states("a") == ["queued"]


def test_a_draining_broker_refuses_submits():
    """A broker on its way down takes nothing more."""
    bench = Bench()
    bench.core.draining = True
    bench.submit("a")
    assert bench.refusals() == [("a", "draining")]


@pytest.mark.parametrize(("waiting", "full"), [(2, False), (3, True), (4, True)])
def test_the_queue_is_full_at_its_limit(waiting, full):
    """N-1 jobs leave room, N do not."""
    bench = Bench(queue_limit=3)
    for number in range(waiting):
        bench.submit(f"j{number}", commit=number % 2 == 0)
    assert bench.core.full is full


def test_jobs_on_disk_count_against_the_queue():
    """What was spilled still waits."""
    bench = Bench(queue_limit=6, window=1)
    for name in "abcdef":
        bench.submit(name)
    assert bench.core.line.on_disk
    assert bench.core.full


def test_cancel_of_a_queued_job_ends_it_after_the_commit():
    """A waiting job is cancelled at once, and said so once that is on disk."""
    bench = Bench()
    bench.submit("a")
    bench.cancel("a", commit=False)
    assert bench.states("a") == ["queued"]
    bench.commit()
    assert bench.states("a") == ["queued", "cancelled"]
    assert bench.last("a").code == 406
    bench.join("w1")
    assert bench.orders("w1") == []


def test_cancel_of_a_job_being_stored_ends_it_unstarted():
    """A cancel that overtakes the commit is not lost."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a", commit=False)
    bench.cancel("a")
    assert bench.states("a") == ["queued", "cancelled"]
    assert bench.orders("w1") == []


def test_cancel_of_a_job_on_disk_ends_it_unstarted():
    """A job that only the journal holds is cancelled there."""
    bench = Bench(window=1)
    for name in "abcdef":
        bench.submit(name)
    assert "f" not in bench.core.jobs
    bench.cancel("f")
    assert bench.states("f")[-1] == "cancelled"
    bench.join("w1", slots=9)
    bench.commit()
    assert sorted(name for name, _ in bench.orders("w1")) == list("abcde")


@pytest.mark.parametrize("ready", [1, 2, 3, 4])
def test_cancel_of_a_job_on_disk_while_the_window_is_any_way_full(ready):
    """A cancel never spills the job that it ends."""
    bench = Bench(window=2)
    for number in range(9):
        bench.submit(f"j{number}")
    bench.join("w1", slots=1)
    for attempt in range(4 - ready):
        bench.report(reports.Done, "w1", bench.orders("w1")[attempt][0])
        bench.commit()
    for number in range(9):
        bench.cancel(f"j{number}")
    ended = [n for n in range(9) if bench.states(f"j{n}")[-1] in ("cancelled", "done")]
    assert len(ended) == 8  # one runs, and is stopped by its worker


def test_cancel_of_a_running_job_goes_to_its_worker():
    """The worker that has it stops it and says 406: then it is cancelled."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a")
    bench.cancel("a")
    assert bench.sent[-1][1].KIND == "cancel_job"
    assert bench.states("a")[-1] == "dispatched"
    bench.report(reports.Failed, "w1", "a", code=406, detail="the job was cancelled")
    bench.commit()
    assert bench.states("a")[-1] == "cancelled"


def test_a_cancelled_job_that_finishes_first_is_done():
    """A cancel that comes too late changes no outcome."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a")
    bench.cancel("a")
    bench.report(reports.Done, "w1", "a")
    bench.commit()
    assert bench.states("a")[-1] == "done"


def test_a_cancelled_job_lost_before_acceptance_is_dispatched_for_what_may_stand_there():
    """Its worker may have died with the placeholder up: another one replaces it, told 406."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a")
    bench.cancel("a")
    bench.feed(reports.Bye("w1", "gone"))
    bench.join("w2")
    bench.commit()
    order = bench.order("w2")
    assert (order.verdict, order.accepted, order.touched) == (406, False, True)
    bench.report(reports.Failed, "w2", "a", attempt=2, code=406, detail="cancelled")
    bench.commit()
    assert bench.states("a")[-1] == "cancelled"


def test_a_cancelled_job_lost_after_acceptance_is_dispatched_for_its_placeholder():
    """Its placeholder stands: another worker is told to replace it, with verdict 406."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a")
    bench.report(reports.Accepted, "w1", "a")
    bench.cancel("a")
    bench.feed(reports.Bye("w1", "gone"))
    bench.join("w2")
    bench.commit()
    order = bench.order("w2")
    assert (order.verdict, order.accepted, order.attempt) == (406, True, 2)
    bench.report(reports.Failed, "w2", "a", attempt=2, code=406)
    bench.commit()
    assert bench.states("a")[-1] == "cancelled"


def test_cancel_of_an_accepted_job_that_waits_is_dispatched_for_its_placeholder():
    """Also when no worker had it as the cancel came."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a")
    bench.report(reports.Accepted, "w1", "a")
    bench.feed(reports.Bye("w1", "gone"))
    bench.cancel("a")
    bench.join("w2")
    assert bench.order("w2").verdict == 406


def test_a_job_cancelled_while_it_ran_stays_cancelled_over_a_restart():
    """The journal remembers the cancel; the next life does not do the work."""
    first = Bench()
    first.join("w1")
    first.submit("a")
    first.cancel("a")
    second = Bench(rows=first.journal.rows)
    second.join("w2")
    second.commit()
    assert second.orders("w2") == []
    assert second.states("a") == ["cancelled"]


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_recovered_job_that_is_cancelled_ends_when_its_former_worker_has_stopped(in_memory):
    """Else that worker could still put a placeholder up for a job that has ended."""
    first = Bench()
    first.join("w1")
    first.submit("a")
    second = Bench(rows=first.journal.rows, awaited={"w1": 105})
    if in_memory:
        second.submit("a", topic="other")
        assert "a" in second.core.jobs
    second.cancel("a")
    assert second.states("a")[-1] == "queued"
    second.tick(4.9)
    second.commit()
    assert second.states("a")[-1] == "queued"
    second.tick(0.2)
    second.commit()
    assert second.states("a")[-1] == "cancelled"


def test_cancel_of_an_unknown_job_is_said_unknown():
    """Nothing was ever heard of it."""
    bench = Bench()
    bench.cancel("ghost")
    assert bench.refusals() == [("ghost", "unknown")]


def test_cancel_of_an_ended_job_says_how_it_ended():
    """A terminal state never changes."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a")
    bench.report(reports.Done, "w1", "a")
    bench.commit()
    bench.cancel("a", topic="late")
    assert bench.states("a", "late") == ["done"]


def test_a_replay_says_the_states_of_known_jobs_and_refuses_the_others():
    """In memory, ended, never heard of."""
    bench = Bench()
    bench.join("w1")
    bench.submit("ended")
    bench.report(reports.Done, "w1", "ended")
    bench.commit()
    bench.submit("running")
    bench.submit("storing", commit=False)
    bench.feed(jobs.Replay("asker", ("ended", "running", "storing", "ghost")))
    bench.commit()
    assert bench.states("ended", "asker") == ["done"]
    assert bench.states("running", "asker") == ["dispatched"]
    assert bench.states("storing", "asker") == []
    assert bench.refusals("asker") == [("ghost", "unknown")]


def test_a_replay_of_a_job_on_disk_leaves_it_there():
    """Asking moves nothing."""
    bench = Bench(window=1)
    for name in "abcdef":
        bench.submit(name)
    before = len(bench.core.line)
    bench.feed(jobs.Replay("asker", ("f",)))
    bench.commit()
    assert bench.states("f", "asker") == ["queued"]
    assert len(bench.core.line) == before


def test_events_of_a_topic_are_numbered_without_a_gap():
    """States and refusals count together, each topic for itself."""
    bench = Bench()
    bench.join("w1", slots=5)
    for name in "abc":
        bench.submit(name)
        bench.submit(name, topic="other")
        bench.cancel("ghost")
        bench.report(reports.Done, "w1", name)
        bench.commit()
    for topic in (TOPIC, "other"):
        seqs = [message.seq for heard_on, message in bench.said if heard_on == topic]
        assert seqs == list(range(1, len(seqs) + 1))


def test_a_topic_that_lost_its_listener_is_numbered_anew():
    """Its next listener sees that it has missed something."""
    bench = Bench()
    bench.submit("a")
    bench.submit("b")
    bench.feed(act.Unsubscribed(TOPIC))
    bench.submit("c")
    assert bench.last("c").seq == 1


def test_at_most_four_topics_hear_of_a_job():
    """The fifth that joins takes the place of the first."""
    bench = Bench()
    for number in range(5):
        bench.submit("a", topic=f"t{number}")
    bench.cancel("a", topic="t4")
    heard = {topic for topic, m in bench.said if isinstance(m, JobState) and m.state == "cancelled"}
    assert heard == {"t1", "t2", "t3", "t4"}

"""What workers and the broker owe each other: leases, attempts, fencing, credit, retries."""

from __future__ import annotations

import pytest

from imgserve.broker import actions as act
from imgserve.protocol import lane, reports
from imgserve.protocol.events import TurnedAway, Welcome
from tests.broker.core_bench import Bench, is_job


def running(*, slots: int = 1, **policy: float) -> Bench:
    """A bench where worker w1 runs job a, attempt 1."""
    bench = Bench(**policy)
    bench.join("w1", slots=slots)
    bench.submit("a")
    return bench


# --- joining


def test_a_hello_opens_one_lane_and_is_welcomed_each_time():
    """A hello again means that the welcome was not heard."""
    bench = Bench()
    hello = reports.Hello("w1", "host", 1, 2, "1", ())
    bench.feed(hello)
    actions = bench.feed(hello)
    welcomes = [m for topic, m in bench.said if topic == "w1" and isinstance(m, Welcome)]
    assert len(welcomes) == 2
    assert not any(isinstance(action, act.OpenLane) for action in actions)


def test_a_worker_gets_no_job_before_its_first_beat():
    """Before that its lane may not be connected."""
    bench = Bench()
    bench.submit("a")
    bench.feed(reports.Hello("w1", "host", 1, 2, "1", ()))
    assert bench.orders("w1") == []
    bench.beat("w1")
    assert bench.orders("w1") == [("a", 1)]


def test_a_worker_without_a_lane_is_turned_away_for_good():
    """Where no port is left there is no point in coming back."""
    bench = Bench()
    bench.core.handle(reports.Hello("w1", "host", 1, 2, "1", ()), 0)
    bench.feed(act.LaneRefused("w1", "no port"))
    _, message = bench.said[-1]
    assert isinstance(message, TurnedAway)
    assert message.final
    assert not bench.core.fleet.workers


# --- terminal states


@pytest.mark.parametrize(
    ("kind", "state"),
    [(reports.Done, "done"), (reports.Rejected, "rejected"), (reports.Failed, "failed")],
)
def test_an_end_is_said_and_acknowledged_only_after_the_commit(kind, state):
    """Before it is on disk nobody hears of it, its worker neither."""
    bench = running()
    seq = bench.report(kind, "w1", "a")
    bench.flush()
    assert bench.states("a")[-1] == "queued"
    assert seq not in bench.acks("w1")
    bench.commit()
    assert bench.states("a")[-1] == state
    assert seq in bench.acks("w1")


def test_an_end_reported_again_before_the_commit_is_not_acknowledged_early():
    """A resent report waits for the same commit."""
    bench = running()
    seq = bench.report(reports.Done, "w1", "a")
    again = reports.Done("w1", bench.core.epoch, seq, "a", 1, "x", 1, 1, 1, {})
    bench.feed(again)
    bench.flush()
    assert seq not in bench.acks("w1")
    bench.commit()
    assert seq in bench.acks("w1")


def test_an_end_reported_again_after_the_commit_is_acknowledged_and_changes_nothing():
    """The acknowledgement was lost; the outcome stays."""
    bench = running()
    bench.report(reports.Done, "w1", "a")
    bench.commit()
    before = len(bench.said)
    seq = bench.report(reports.Failed, "w1", "a")
    bench.commit()
    assert seq in bench.acks("w1")
    assert len(bench.said) == before


def test_accepted_is_said_only_after_the_commit():
    """The final dstURL is on disk before anybody hears it."""
    bench = running()
    bench.report(reports.Accepted, "w1", "a")
    assert bench.states("a")[-1] == "queued"
    bench.commit()
    assert bench.states("a")[-1] == "accepted"
    assert bench.last("a").dst_url == "http://d/1.png"


def test_accepted_is_not_said_when_only_an_earlier_update_is_on_disk():
    """The commit of what was known before the acceptance says nothing of it."""
    bench = running()
    bench.report(reports.Returned, "w1", "a", reason="drained")
    bench.report(reports.Accepted, "w1", "a", attempt=2)
    first, second = bench.journal.pending
    bench.journal.pending.clear()
    bench.feed(act.Updated((("a", first.version),)))
    assert "accepted" not in bench.states("a")
    bench.feed(act.Updated((("a", second.version),)))
    assert bench.states("a")[-1] == "accepted"


def test_accepted_is_said_once():
    """A resent acceptance is acknowledged and not said again."""
    bench = running()
    bench.report(reports.Accepted, "w1", "a")
    bench.commit()
    seq = bench.report(reports.Accepted, "w1", "a")
    bench.commit()
    assert bench.states("a").count("accepted") == 1
    assert seq in bench.acks("w1")


def test_a_rejection_after_acceptance_is_a_failure():
    """What was accepted once can only fail."""
    bench = running()
    bench.report(reports.Accepted, "w1", "a")
    bench.feed(reports.Bye("w1", "gone"))
    bench.join("w2")
    bench.report(reports.Rejected, "w2", "a", attempt=2)
    bench.commit()
    assert bench.states("a")[-1] == "failed"


# --- fencing


FENCED = [
    pytest.param({"epoch": "e0"}, id="of a former epoch"),
    pytest.param({"attempt": 1}, id="of a former attempt"),
    pytest.param({"name": "w1"}, id="of a former incarnation"),
    pytest.param({"name": "w3"}, id="of a worker without this job"),
]


@pytest.mark.parametrize("stale", FENCED)
@pytest.mark.parametrize(
    "kind", [reports.Accepted, reports.Rejected, reports.Done, reports.Failed, reports.Returned]
)
def test_a_stale_report_changes_nothing(kind, stale):
    """Only the current attempt of the current incarnation in the current epoch counts."""
    bench = running()
    bench.feed(reports.Bye("w1", "gone"))
    bench.join("w2")
    bench.join("w3")
    bench.commit()
    assert bench.orders("w2") + bench.orders("w3") == [("a", 2)]
    owner = "w2" if bench.orders("w2") else "w3"
    other = {"w2": "w3", "w3": "w2"}[owner]
    stale = {key: other if value == "w3" else value for key, value in stale.items()}
    said = list(bench.states("a"))
    bench.report(kind, **{"name": owner, "job_id": "a", "attempt": 2, **stale})
    assert not bench.journal.pending
    bench.commit()
    assert bench.states("a") == said
    assert bench.core.jobs["a"].attempt == 2
    assert bench.core.fleet.workers[owner].held


def test_a_beat_of_a_former_epoch_renews_no_lease():
    """A worker of a former life is no worker of this one."""
    bench = Bench()
    bench.join("w1")
    bench.now_s += 4
    bench.feed(reports.Beat("w1", "e0", 7, (), (), {}))
    bench.tick(1.5)
    assert "w1" not in bench.core.fleet.workers


def test_a_worker_whose_lease_is_over_is_told_so():
    """It says hello again as a new incarnation."""
    bench = Bench()
    bench.beat("stranger")
    topic, message = bench.said[-1]
    assert topic == "stranger"
    assert isinstance(message, TurnedAway)
    assert not message.final


# --- leases


@pytest.mark.parametrize(("silence_s", "lost"), [(4.9, False), (5.0, False), (5.1, True)])
def test_a_silent_worker_loses_its_jobs_after_its_lease(silence_s, lost):
    """Not before, and not much later."""
    bench = running()
    bench.now_s += silence_s
    bench.join("w2")
    bench.tick(0)
    assert bench.orders("w2") == ([("a", 2)] if lost else [])
    assert ("w1" in bench.closed) is lost


def test_a_slow_worker_that_beats_keeps_its_job():
    """Slow is not dead."""
    bench = running()
    bench.join("w2")
    for _ in range(60):
        bench.tick(1)
        bench.beat("w1", (("a", 1),))
        bench.beat("w2")
    assert bench.orders("w2") == []
    assert bench.orders("w1") == [("a", 1)]


def test_a_lost_job_keeps_the_reason_of_each_attempt():
    """What became of earlier attempts is shown with the outcome."""
    bench = running()
    bench.tick(6)
    bench.join("w2")
    bench.report(reports.Done, "w2", "a", attempt=2)
    bench.commit()
    (reason,) = bench.last("a").reasons
    assert "silent for 5 s" in reason
    assert bench.last("a").attempts == 2


def test_a_bye_gives_the_jobs_to_others_at_once():
    """A worker that leaves need not be waited for."""
    bench = running()
    bench.join("w2")
    bench.feed(reports.Bye("w1", "drained"))
    assert bench.orders("w2") == [("a", 2)]


def test_recovered_jobs_wait_until_the_former_life_is_over():
    """Its workers stop by their own leases before their jobs go to others."""
    first = running()
    bench = Bench(rows=first.journal.rows, awaited={"w1": 105})
    bench.join("w2")
    bench.commit()
    bench.tick(4.9)
    bench.commit()
    assert bench.orders("w2") == []
    bench.beat("w2")
    bench.tick(0.2)
    bench.commit()
    assert bench.orders("w2") == [("a", 1)]


def test_recovered_jobs_wait_for_all_workers_of_the_former_life_and_no_longer():
    """Each that comes back says that nothing of its former lives runs any more."""
    bench = Bench(rows=running().journal.rows, awaited={"w1": 105, "w2": 105})
    bench.join("w1-again", former=("w0", "w1"))
    bench.commit()
    assert bench.orders("w1-again") == []
    bench.join("w2-again", former=("w2",))
    bench.commit()
    assert bench.orders("w1-again") + bench.orders("w2-again") == [("a", 1)]


def test_a_worker_that_is_new_settles_nobody_else():
    """Only a process can say of itself that it has stopped."""
    bench = Bench(rows=running().journal.rows, awaited={"w1": 105})
    bench.join("w9")
    bench.commit()
    assert bench.orders("w9") == []


def test_recovered_jobs_do_not_wait_for_a_worker_that_has_left():
    """A worker that drained while its broker was down says bye to the next."""
    bench = Bench(rows=running().journal.rows, awaited={"w1": 105})
    bench.join("w2")
    bench.feed(reports.Bye("w1", "drained"))
    bench.beat("w2")
    bench.commit()
    assert bench.orders("w2") == [("a", 1)]


# --- lost lane messages


def test_a_job_that_two_beats_do_not_list_is_sent_again_as_the_same_attempt():
    """It was lost on its lane; no attempt is burnt."""
    bench = running(beat_s=1)
    bench.tick(1)
    bench.beat("w1")
    assert len(bench.orders("w1")) == 1
    bench.tick(1.1)
    bench.beat("w1")
    assert bench.orders("w1") == [("a", 1), ("a", 1)]


def test_a_job_that_a_beat_lists_is_not_sent_again():
    """The worker has it."""
    bench = running(beat_s=1)
    for _ in range(9):
        bench.tick(1)
        bench.beat("w1", (("a", 1),))
    assert bench.orders("w1") == [("a", 1)]


def test_a_job_listed_with_a_former_attempt_is_sent_again():
    """The worker lists what it had before, not what it lost."""
    bench = running(beat_s=1)
    bench.report(reports.Returned, "w1", "a", reason="drained")
    bench.tick(2.1)
    bench.beat("w1", (("a", 1),))
    assert bench.orders("w1") == [("a", 1), ("a", 2), ("a", 2)]


def test_a_cancelled_job_that_is_sent_again_is_cancelled_again():
    """Its cancel was lost with it."""
    bench = running(beat_s=1)
    bench.cancel("a")
    bench.tick(2.1)
    bench.beat("w1")
    assert [message.KIND for _, message in bench.sent[-2:]] == ["job", "cancel_job"]


# --- after acceptance


def test_an_attempt_after_acceptance_says_so_to_its_worker():
    """It must upload no placeholder: the picture may be there already."""
    bench = running()
    bench.report(reports.Accepted, "w1", "a")
    bench.feed(reports.Bye("w1", "gone"))
    bench.join("w2")
    assert bench.order("w2").accepted
    assert bench.order("w2").verdict == 0


def test_acceptance_survives_a_restart():
    """The journal knows it, and the next life's attempts upload no placeholder."""
    first = running()
    first.report(reports.Accepted, "w1", "a")
    first.commit()
    second = Bench(rows=first.journal.rows)
    second.join("w2")
    second.commit()
    assert second.order("w2").accepted


def test_once_accepted_a_job_never_looks_queued_again():
    """States only move forward, whatever happens to its worker."""
    bench = running()
    bench.report(reports.Accepted, "w1", "a")
    bench.commit()
    bench.feed(reports.Bye("w1", "gone"))
    bench.submit("a")
    assert bench.states("a") == ["queued", "accepted", "accepted"]


# --- retries


def test_transient_trouble_is_tried_again_after_a_delay():
    """Doubling, with jitter between half and all of it."""
    bench = running(retry_base_s=1, lease_s=1e6)
    delays = []
    for attempt in range(1, 5):
        bench.report(reports.Returned, "w1", "a", attempt=attempt)
        start_s = bench.now_s
        while len(bench.orders("w1")) == attempt:
            bench.tick(0.05)
        delays.append(bench.now_s - start_s)
    for number, delay_s in enumerate(delays):
        assert 0.5 * 2**number - 0.01 <= delay_s <= 2**number + 0.06


def test_a_retry_after_is_honoured():
    """The peer asked for a longer wait than the backoff."""
    bench = running(retry_base_s=0.1, lease_s=1e6)
    bench.report(reports.Returned, "w1", "a", delay_s=7.0)
    bench.tick(6.9)
    assert len(bench.orders("w1")) == 1
    bench.tick(0.2)
    assert len(bench.orders("w1")) == 2


def test_a_retry_after_beyond_the_limit_is_cut():
    """A peer cannot park a job for ever."""
    bench = running(retry_max_s=60, lease_s=1e6)
    bench.report(reports.Returned, "w1", "a", delay_s=1e9)
    bench.tick(60.1)
    assert len(bench.orders("w1")) == 2


@pytest.mark.parametrize(
    ("code", "state"), [(201, "rejected"), (205, "rejected"), (301, "rejected"), (404, "failed")]
)
def test_spent_retries_before_acceptance_end_the_job(code, state):
    """The last trouble is the verdict."""
    bench = running(retry_limit=1, retry_base_s=0.01)
    bench.report(reports.Returned, "w1", "a", code=code)
    bench.tick(1)
    bench.report(reports.Returned, "w1", "a", attempt=2, code=code)
    bench.commit()
    assert (bench.last("a").state, bench.last("a").code) == (state, code)
    assert len(bench.last("a").reasons) == 2


@pytest.mark.parametrize(("code", "verdict"), [(404, 404), (403, 403), (201, 403)])
def test_spent_retries_after_acceptance_replace_the_placeholder_first(code, verdict):
    """One more dispatch, that does no work but to upload the failure placeholder."""
    bench = running(retry_limit=0)
    bench.report(reports.Accepted, "w1", "a")
    bench.report(reports.Returned, "w1", "a", code=code)
    order = bench.order("w1")
    assert (order.attempt, order.verdict, order.detail) == (2, verdict, "timed out")
    bench.report(reports.Failed, "w1", "a", attempt=2, code=verdict)
    bench.commit()
    assert (bench.last("a").state, bench.last("a").code) == ("failed", verdict)


def test_a_job_that_killed_its_pixel_process_three_times_fails_with_405():
    """Poison is contained; others that shared its worker are not blamed."""
    bench = running(slots=2, crash_limit=3)
    bench.submit("b")
    for attempt in (1, 2, 3):
        assert bench.states("a")[-1] == "queued"
        bench.report(reports.Returned, "w1", "a", attempt=attempt, reason="crashed", code=405)
        bench.commit()
    assert (bench.last("a").state, bench.last("a").code) == ("failed", 405)
    assert bench.core.jobs["b"].crashes == 0
    assert bench.core.jobs["b"].attempt == 1


def test_crashes_after_acceptance_replace_the_placeholder_first():
    """The picture that says that work goes on must go."""
    bench = running(crash_limit=1)
    bench.report(reports.Accepted, "w1", "a")
    bench.report(reports.Returned, "w1", "a", reason="crashed", code=405)
    assert bench.order("w1").verdict == 405


def test_crashes_are_counted_over_a_restart():
    """A poisoned job does not start with a clean slate."""
    first = running(crash_limit=2)
    first.report(reports.Returned, "w1", "a", reason="crashed", code=405)
    first.commit()
    second = Bench(rows=first.journal.rows, crash_limit=2)
    second.join("w2")
    second.commit()
    attempt = second.order("w2").attempt
    second.report(reports.Returned, "w2", "a", attempt, reason="crashed", code=405)
    second.commit()
    assert second.states("a") == ["failed"]


def test_a_drained_job_burns_no_attempt():
    """A worker that ends on purpose is not the job's fault."""
    bench = running(retry_limit=0, crash_limit=1)
    for attempt in range(1, 11):
        bench.report(reports.Returned, "w1", "a", attempt=attempt, reason="drained", code=503)
    bench.report(reports.Done, "w1", "a", attempt=11)
    bench.commit()
    assert bench.last("a").state == "done"
    assert bench.last("a").attempts == 1


def test_a_job_that_never_ends_is_given_up_at_the_attempt_limit():
    """Whatever ended its attempts."""
    bench = Bench(attempt_limit=3)
    bench.submit("a")
    for number in range(3):
        bench.join(f"w{number}")
        bench.feed(reports.Bye(f"w{number}", "gone"))
    bench.join("w9")
    bench.commit()
    order = bench.order("w9")
    assert (order.verdict, order.touched) == (405, True)
    bench.report(reports.Failed, "w9", "a", order.attempt, code=405, detail="spent")
    bench.commit()
    assert (bench.last("a").state, bench.last("a").code) == ("failed", 405)


def test_an_attempt_after_a_lost_one_is_told_so():
    """The lost one may have left a placeholder, or even a result; a first attempt has none."""
    bench = Bench()
    bench.join("w1")
    bench.submit("a")
    assert not bench.order("w1").touched
    bench.feed(reports.Bye("w1", "gone"))
    bench.join("w2")
    assert (bench.order("w2").touched, bench.order("w2").accepted) == (True, False)


def test_a_touched_job_whose_retries_are_spent_is_rejected_once_nothing_stands_there():
    """Never accepted, it ends rejected with its own code, after a worker has cleaned up."""
    bench = Bench(retry_limit=0)
    bench.join("w1")
    bench.submit("a")
    bench.feed(reports.Bye("w1", "gone"))
    bench.join("w2")
    bench.report(reports.Returned, "w2", "a", 2, reason="transient", code=201, detail="timeout")
    assert bench.order("w2").verdict == 201
    bench.report(reports.Failed, "w2", "a", 3, code=201, detail="timeout")
    bench.commit()
    assert (bench.last("a").state, bench.last("a").code) == ("rejected", 201)


# --- credit and order


def test_jobs_in_flight_never_exceed_the_slots():
    """Credit is what a worker said it takes."""
    bench = Bench()
    bench.join("w1", slots=2)
    bench.join("w2", slots=3)
    for number in range(9):
        bench.submit(f"j{number}")
    assert len(bench.orders("w1")) == 2
    assert len(bench.orders("w2")) == 3
    assert bench.core.fleet.credit == 0
    bench.report(reports.Done, "w1", bench.orders("w1")[0][0])
    assert len(bench.orders("w1")) == 3


def test_a_job_goes_to_the_worker_with_the_most_credit():
    """Load spreads by free slots."""
    bench = Bench()
    bench.join("small", slots=1)
    bench.join("big", slots=3)
    for number in range(3):
        bench.submit(f"j{number}")
    assert len(bench.orders("big")) >= 2


def test_higher_priority_goes_first_then_the_oldest():
    """Among jobs that wait."""
    bench = Bench()
    for name, priority in (("low", -5), ("first", 0), ("second", 0), ("high", 5)):
        bench.submit(name, priority=priority)
        bench.now_s += 1
    bench.join("w1", slots=4)
    assert [name for name, _ in bench.orders("w1")] == ["high", "first", "second", "low"]


def test_waiting_beats_priority_in_the_end():
    """One priority is worth ageing_s of waiting: nothing starves."""
    bench = Bench(ageing_s=60)
    bench.submit("old", priority=0)
    bench.now_s += 61
    bench.submit("new", priority=1)
    bench.join("w1")
    assert bench.orders("w1") == [("old", 1)]


def test_a_draining_broker_dispatches_nothing():
    """What workers hold may end; the rest waits for the next life."""
    bench = Bench()
    bench.submit("a")
    bench.core.draining = True
    bench.join("w1")
    assert bench.orders("w1") == []


def test_every_report_is_acknowledged_but_ends_only_once_on_disk():
    """Beats, acceptances and returns at the next flush."""
    bench = running()
    seqs = {bench.beat("w1"), bench.report(reports.Accepted, "w1", "a")}
    seqs.add(bench.report(reports.Returned, "w1", "a"))
    bench.flush()
    assert seqs <= bench.acks("w1")


def test_acknowledgements_of_a_turn_travel_together():
    """One message a worker, however many reports it sent."""
    bench = Bench()
    bench.join("w1")
    for _ in range(5):
        bench.beat("w1")
    bench.flush()
    acks = [m for _, m in bench.sent if isinstance(m, lane.Ack)]
    assert [len(message.seqs) for message in acks] == [6]
    assert not any(is_job(m) for _, m in bench.sent)

"""The blocking client, over real sockets, before a broker that makes trouble."""

from __future__ import annotations

import threading
import time

import pytest

from imgserve.client import Client, JobUnknown
from imgserve.errors import (
    JobConflict,
    JobFailed,
    ProtocolError,
    RequestInvalid,
    RequestUnparsable,
    ServiceUnavailable,
)
from imgserve.protocol.events import Refusal, State
from imgserve.protocol.jobs import Replay, Submit
from tests.client.conftest import QUICK
from tests.support.broker_double import BrokerDouble, queue_only
from tests.support.eventually import eventually
from tests.support.gateway_run import REQUEST


def numbered(count):
    """That many requests with ids."""
    for number in range(count):
        yield f"job-{number}", {**REQUEST, "srcURL": f"http://there/{number}.png"}


def ends(state, **fields):
    """A script: every job is queued, then ends so."""
    return lambda submit: [(State.QUEUED, {}), (state, fields)]


def test_a_done_job_says_where_its_result_is_and_how_big(client):
    """First the reply, then the outcome."""
    job = client.submit(REQUEST)
    assert job.accepted(timeout_s=5) == {"dstURL": "http://there/done.png"}
    outcome = job.result(timeout_s=5)
    assert (outcome.id, outcome.state, job.state) == (job.id, State.DONE, State.DONE)
    assert (outcome.width_px, outcome.height_px, outcome.size_bytes) == (4, 3, 99)
    assert outcome.seconds == {"total": 0.01}


def test_an_invalid_request_raises_at_once(broker, client):
    """The quick checks run here; nothing travels."""
    with pytest.raises(RequestInvalid) as refusal:
        client.submit({**REQUEST, "operationType": "paint"})
    assert refusal.value.code == 102
    with pytest.raises(RequestUnparsable):
        client.submit(b"[]")
    with pytest.raises(RequestUnparsable):
        client.submit(
            {
                **REQUEST,
                "dstURL": "ftp://there/a.png",
                "args": {"width": 1, "height": 1, "field_file": {1, 2}},
            }
        )
    with pytest.raises(ProtocolError):
        client.submit(REQUEST, id="a b")
    with pytest.raises(ProtocolError):
        client.submit(REQUEST, priority=101)
    assert broker.submits == 0


def test_a_request_that_grows_over_the_limit_as_ascii_is_117(client):
    """64 KiB is the limit of what travels, too."""
    name = "é" * 12_000
    with pytest.raises(RequestInvalid) as refusal:
        client.submit({**REQUEST, "srcURL": f"http://there/{name}.png"})
    assert refusal.value.code == 117


@pytest.mark.parametrize(
    ("state", "error", "code"),
    [
        (State.REJECTED, RequestInvalid, 201),
        (State.FAILED, JobFailed, 401),
        (State.CANCELLED, JobFailed, 406),
    ],
)
def test_a_job_that_is_not_done_raises_its_code(broker, client, state, error, code):
    """From accepted and from result alike, when it never was accepted."""
    broker.script = ends(state, code=code, detail="why")
    job = client.submit(REQUEST)
    for wait in (job.accepted, job.result):
        with pytest.raises(error) as trouble:
            wait(timeout_s=5)
        assert (trouble.value.code, trouble.value.detail) == (code, "why")


def test_a_job_that_fails_after_acceptance_was_accepted_all_the_same(broker, client):
    """The reply stands; the result is what failed."""
    broker.script = lambda submit: [
        (State.QUEUED, {}),
        (State.ACCEPTED, {"dst_url": "u"}),
        (State.FAILED, {"code": 404}),
    ]
    job = client.submit(REQUEST)
    with pytest.raises(JobFailed):
        job.result(timeout_s=5)
    assert job.accepted(timeout_s=5) == {"dstURL": "u"}


def test_a_wait_ends_at_its_timeout(broker, client):
    """With 502; the job goes on and its handle stays good."""
    broker.script = queue_only
    job = client.submit(REQUEST)
    begun_s = time.monotonic()
    with pytest.raises(ServiceUnavailable) as trouble:
        job.accepted(timeout_s=0.2)
    assert trouble.value.code == 502
    assert time.monotonic() - begun_s < 1
    broker.say(job.id, State.DONE, dst_url="u")
    assert job.result(timeout_s=5).state == State.DONE


def test_a_used_id_with_another_request_is_a_conflict(broker, client):
    """Said by the broker for ended jobs and by the client for those under way."""
    client.submit(REQUEST, id="mine").result(timeout_s=5)
    other = {**REQUEST, "srcURL": "http://there/b.png"}
    with pytest.raises(JobConflict):
        client.submit(other, id="mine").result(timeout_s=5)
    broker.script = queue_only
    client.submit(REQUEST, id="open")
    with pytest.raises(JobConflict):
        client.submit(other, id="open").accepted(timeout_s=5)


def test_a_used_id_with_the_same_request_is_the_same_job(broker, client):
    """Under way both handles hear; ended, the original outcome comes again."""
    broker.script = queue_only
    first, second = client.submit(REQUEST, id="mine"), client.submit(REQUEST, id="mine")
    eventually(lambda: first.state == second.state == State.QUEUED)
    broker.say("mine", State.DONE, dst_url="u")
    assert first.result(timeout_s=5) == second.result(timeout_s=5)
    assert client.submit(REQUEST, id="mine").result(timeout_s=5).state == State.DONE


def test_an_earlier_job_is_found_by_its_id(broker, client):
    """By another client, under way or ended; an id never heard of is said to be unknown."""
    broker.script = queue_only
    client.submit(REQUEST, id="mine").state  # noqa: B018
    eventually(lambda: "mine" in broker.known)
    with Client(broker.path, timing=QUICK) as other:
        assert other.find("mine").state == State.QUEUED
        handle = other.job("mine")
        broker.say("mine", State.DONE, dst_url="u")
        assert handle.result(timeout_s=5).dst_url == "u"
        assert other.find("never") is None
        with pytest.raises(JobUnknown):
            other.job("never").result(timeout_s=5)


def test_a_queued_job_is_cancelled(broker, client):
    """Its waits then raise 406; a job never heard of is None."""
    broker.script = queue_only
    job = client.submit(REQUEST)
    eventually(lambda: job.state)
    assert client.cancel(job.id).state == State.CANCELLED
    with pytest.raises(JobFailed) as trouble:
        job.result(timeout_s=5)
    assert trouble.value.code == 406
    assert client.cancel("never") is None


def test_figures_and_dead_letters_come_from_the_broker(broker, client):
    """Asked and answered on the own topic."""
    broker.figures = {"queue_length": 3}
    assert client.stats() == {"queue_length": 3}
    assert client.dead("list").letters[0]["id"] == "dead-1"
    broker.silent_stats = True
    with pytest.raises(ServiceUnavailable):
        client.stats(timeout_s=0.3)


def test_a_lost_submit_goes_again(broker, client):
    """With the same id, after a while, the broker being alive."""
    broker.lose_submits = 1
    job = client.submit(REQUEST)
    assert job.result(timeout_s=5).state == State.DONE
    assert [message.job_id for message in broker.asked(Submit)] == [job.id, job.id]


def test_lost_events_are_replayed(broker, client):
    """The next event of whichever job shows the hole."""
    client.submit(REQUEST).result(timeout_s=5)
    broker.script = queue_only
    job = client.submit(REQUEST)
    eventually(lambda: job.state)
    broker.lose = 1
    broker.say(job.id, State.DONE, dst_url="u")
    eventually(lambda: broker.lose == 0)
    client.submit(REQUEST)
    begun_s = time.monotonic()
    assert job.result(timeout_s=5).state == State.DONE
    assert time.monotonic() - begun_s < QUICK.quiet_s / 2


def test_a_lost_last_event_is_asked_for_in_the_end(broker, client):
    """No later event shows the hole; the slow replay does."""
    broker.script = queue_only
    job = client.submit(REQUEST)
    eventually(lambda: job.state)
    broker.lose = 1
    broker.say(job.id, State.DONE, dst_url="u")
    assert job.result(timeout_s=5).state == State.DONE


def test_silence_is_noticed_and_what_was_said_in_it_is_replayed(broker, client):
    """Reconnect, then ask for what is outstanding."""
    broker.script = queue_only
    job = client.submit(REQUEST)
    eventually(lambda: job.state)
    broker.mute = True
    broker.say(job.id, State.DONE, dst_url="u")
    eventually(lambda: not client._session.ledger.alive)
    broker.mute = False
    assert job.result(timeout_s=5).state == State.DONE
    assert any(job.id in message.job_ids for message in broker.asked(Replay))


def test_a_broker_at_another_address_is_found_through_the_connection_file(broker, client):
    """The ports were taken while it was down."""
    job = client.submit(REQUEST)
    job.result(timeout_s=5)
    broker.restart(keep_ports=False)
    assert client.submit(REQUEST).result(timeout_s=5).state == State.DONE


def test_a_job_that_the_broker_forgot_is_submitted_again(broker, client):
    """A lost journal loses no job that a client still waits for."""
    broker.script = queue_only
    job = client.submit(REQUEST)
    eventually(lambda: job.state)
    broker.stop()
    broker.known.clear()
    broker.script = ends(State.DONE)
    broker.start()
    assert job.result(timeout_s=5).state == State.DONE


@pytest.mark.parametrize("reason", [Refusal.OVERLOADED, Refusal.DRAINING])
def test_a_job_refused_for_now_is_done_later(broker, client, reason):
    """Backoff, the same id, no error."""
    broker.refuse = reason
    job = client.submit(REQUEST)
    eventually(lambda: broker.submits >= 2)
    broker.refuse = None
    assert job.result(timeout_s=5).state == State.DONE


def test_a_client_may_start_before_its_broker(tmp_path):
    """It waits for the connection file."""
    broker = BrokerDouble(tmp_path)
    with Client(broker.path, timing=QUICK) as client:
        job = client.submit(REQUEST)
        with broker:
            assert job.result(timeout_s=5).state == State.DONE


def test_map_yields_an_outcome_for_every_request_whatever_becomes_of_it(broker, client):
    """Nothing raises: invalid, unparsable, conflicting, failed and done ones all come."""
    client.submit(REQUEST, id="used").result(timeout_s=5)
    broker.script = lambda submit: (
        [(State.FAILED, {"code": 401})] if submit.job_id == "bad" else [(State.DONE, {})]
    )
    items = [
        ("good", REQUEST),
        ("bad", REQUEST),
        ("invalid", {**REQUEST, "args": {}}),
        ("unparsable", b"?"),
        ("used", {**REQUEST, "srcURL": "http://there/b.png"}),
        REQUEST,
    ]
    outcomes = {outcome.id: outcome for outcome in client.map(items)}
    assert len(outcomes) == 6
    said = {name: (outcomes[name].state, outcomes[name].code) for name in list(outcomes)}
    assert said["good"] == (State.DONE, 0)
    assert said["bad"] == (State.FAILED, 401)
    assert said["invalid"] == (State.REJECTED, 106)
    assert said["unparsable"] == (State.REJECTED, 0)
    assert said["used"] == (State.REJECTED, 0)


def test_map_yields_in_completion_order_and_holds_no_more_than_its_window(broker, client):
    """A slow first job holds up none that fits beside it."""
    broker.script = lambda submit: (
        [(State.QUEUED, {})] if submit.job_id == "job-0" else [(State.DONE, {})]
    )
    outcomes = client.map(numbered(20), window=2)
    first = [next(outcomes).id for _ in range(19)]
    assert first == [f"job-{number}" for number in range(1, 20)]
    broker.say("job-0", State.DONE)
    assert [outcome.id for outcome in outcomes] == ["job-0"]


def test_map_survives_restarts_of_the_broker_and_loses_nothing(broker, client):
    """Submits and events are lost on the way; every job ends once, done."""
    ids, restarts = [], 0
    for outcome in client.map(numbered(3000), window=100):
        ids.append(outcome.id)
        if len(ids) % 1000 == 500:
            broker.lose, broker.lose_submits = 50, 20
            broker.restart(keep_ports=restarts % 2 == 0)
            restarts += 1
    assert restarts == 3
    assert sorted(ids) == sorted(job_id for job_id, _ in numbered(3000))
    assert client._session.ledger.jobs == {}


def test_submit_blocks_while_the_broker_takes_nothing_and_goes_on_after(broker, client):
    """Backpressure: bounded memory, no error, nothing lost."""
    client.submit(REQUEST).result(timeout_s=5)
    broker.full = True
    eventually(lambda: client._session.congested)
    jobs = []
    thread = threading.Thread(
        target=lambda: jobs.extend(client.submit(REQUEST) for _ in range(3000))
    )
    thread.start()
    eventually(lambda: len(client._inbox) >= 1000)
    assert thread.is_alive()
    broker.full = False
    thread.join(20)
    assert len(jobs) == 3000
    assert all(job.result(timeout_s=10).state == State.DONE for job in jobs)


def test_several_threads_submit_through_one_client(client):
    """Every one gets its own answers."""
    done = []

    def work(name):
        jobs = [client.submit(REQUEST, id=f"{name}-{n}") for n in range(200)]
        done.extend(job.result(timeout_s=10).id for job in jobs)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(done)) == 800


def test_closing_waits_until_submits_are_safe(broker):
    """What was submitted before the block ends has reached the journal."""
    with Client(broker.path, timing=QUICK) as client:
        for item in numbered(500):
            client.submit(item[1], id=item[0])
    assert len(broker.known) == 500


def test_closing_is_bounded_and_leaves_no_thread(tmp_path):
    """With no broker at all, too; a closed client says so."""
    client = Client(tmp_path / "connection.json", flush_s=0.2)
    client.submit(REQUEST)
    begun_s = time.monotonic()
    client.close()
    assert time.monotonic() - begun_s < 3
    assert not client._thread.is_alive()
    with pytest.raises(ServiceUnavailable):
        client.submit(REQUEST)

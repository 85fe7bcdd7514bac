"""The broker's process: real sockets, real kills."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import msgpack
import pytest
import zmq

from imgserve.protocol.codec import FRAME_LIMIT_BYTES, LANE, PROTOCOL_VERSION
from imgserve.protocol.events import BrokerBeat, DeadLetters, Refused, TurnedAway
from imgserve.protocol.jobs import Cancel, Dead
from imgserve.protocol.lane import Ack, Job
from imgserve.protocol.reports import Bye, Done, Failed
from tests.broker.broker_process import DEADLINE_S, BrokerProcess, Peer
from tests.support.until import until


@pytest.fixture
def broker(tmp_path: Path):
    """A broker that forgets its workers after a second."""
    with BrokerProcess(tmp_path, lease_s=1) as process:
        yield process


@pytest.fixture
def peer(broker: BrokerProcess):
    """A submitter and worker of that broker."""
    with Peer(broker.connection) as sockets:
        yield sockets


def test_a_job_goes_from_submit_to_done(peer):
    """Over every socket there is."""
    peer.submit("a", b'{"x":1}')
    peer.wait_state("a", "queued")
    worker = peer.join()
    job = peer.take(Job)
    assert (job.job_id, job.attempt, job.payload) == ("a", 1, b'{"x":1}')
    peer.report(Done(worker, job.epoch, 900, "a", 1, "http://d/1.png", 2, 3, 4, {"total": 0.1}))
    peer.wait_state("a", "done")
    until(lambda: 900 in peer.take(Ack).seqs)


def test_the_connection_file_is_private_and_goes_with_the_broker(broker):
    """Mode 0600 while it lives; gone after a clean end, so that nobody calls a dead broker."""
    assert stat.S_IMODE(broker.connection_file.stat().st_mode) == 0o600
    document = json.loads(broker.connection_file.read_text())
    assert document["protocol"] == PROTOCOL_VERSION
    assert broker.stop() == 0
    assert not broker.connection_file.exists()


def test_a_second_broker_on_the_same_state_is_refused(broker):
    """Two would write one journal."""
    second = broker.spawn()
    assert second.wait(DEADLINE_S) == os.EX_CONFIG
    assert "another broker already serves" in broker.log
    assert broker.process.poll() is None


def test_a_taken_port_is_refused_with_its_number(tmp_path):
    """And with the setting that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = BrokerProcess(tmp_path, broker_port=port)
        assert broker.spawn().wait(DEADLINE_S) == os.EX_CONFIG
    assert f"cannot bind 127.0.0.1:{port}" in broker.log
    assert "broker_port" in broker.log
    assert not (tmp_path / "connection.json").exists()


def test_a_state_folder_that_cannot_be_used_is_refused(tmp_path):
    """It says which and why."""
    (tmp_path / "broker.lock").mkdir()
    broker = BrokerProcess(tmp_path)
    assert broker.spawn().wait(DEADLINE_S) == os.EX_CONFIG
    assert f"the state folder {tmp_path} cannot be used" in broker.log


GARBAGE = {
    "no msgpack": [b"\xc1garbage"],
    "empty": [b""],
    "several frames": [b"a", b"b", b"c"],
    "no array": [msgpack.packb({"a": 1})],
    "another kind": [msgpack.packb([PROTOCOL_VERSION, "nonsense", 1])],
    "too few fields": [msgpack.packb([PROTOCOL_VERSION, "submit", "a"])],
    "too many fields": [msgpack.packb([PROTOCOL_VERSION, "bye", "a", "b", "c"])],
    "fields of other types": [msgpack.packb([PROTOCOL_VERSION, "submit", 1, 2, 3, 4])],
    "another version": [msgpack.packb([99, "submit", "a"])],
    "a hello of another version by nobody": [msgpack.packb([99, "hello", "no topic at all"])],
    "a hello of another version by a number": [msgpack.packb([99, "hello", 7])],
    "deep": [b"\x91" * 5000],
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_and_the_next_job_works(peer, broker, garbage):
    """On every socket that others may speak on."""
    for endpoint in (broker.connection.jobs, broker.connection.reports, broker.connection.events):
        kind = zmq.SUB if endpoint == broker.connection.events else zmq.PUSH
        with peer.socket(kind, endpoint) as rude:
            if kind == zmq.PUSH:
                rude.send_multipart(garbage)
            else:
                rude.subscribe(b"".join(garbage))
    for sender in (peer.jobs, peer.reports):
        sender.send_multipart(garbage)
    peer.submit("a")
    peer.wait_state("a", "queued")
    peer.join()
    assert peer.take(Job).job_id == "a"
    assert broker.process.poll() is None
    assert "Traceback" not in broker.log


def test_an_oversized_frame_is_refused_and_the_next_job_works(peer, broker):
    """Its sender is cut off before it is in memory."""
    with peer.socket(zmq.PUSH, broker.connection.jobs) as rude:
        rude.send(b"x" * (FRAME_LIMIT_BYTES + 1))
        peer.submit("a")
        peer.wait_state("a", "queued")


def test_bytes_that_are_no_zmtp_are_refused_and_the_next_job_works(peer, broker):
    """A web browser, say."""
    for endpoint in (broker.connection.jobs, broker.connection.reports, broker.connection.events):
        port = int(endpoint.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
    peer.submit("a")
    peer.wait_state("a", "queued")


def test_a_worker_of_another_version_is_turned_away_for_good(peer):
    """It is told on the topic of its incarnation."""
    peer.events.subscribe(b"stranger ")
    frame = msgpack.packb([PROTOCOL_VERSION + 1, "hello", "stranger", "more", "fields"])

    def turned_away():
        peer.reports.send(frame)
        peer.listen(0.1)
        return [message for topic, message in peer.heard if topic == "stranger"]

    message = until(turned_away)[0]
    assert isinstance(message, TurnedAway)
    assert message.final
    assert f"version {PROTOCOL_VERSION + 1}" in message.reason


def test_ports_are_kept_over_a_kill(broker):
    """Its peers find the next life where the former was."""
    before = broker.connection
    broker.kill()
    with broker:
        after = broker.connection
        assert after.epoch != before.epoch
        assert (after.jobs, after.reports, after.events) == (
            before.jobs,
            before.reports,
            before.events,
        )


def test_other_ports_are_taken_when_somebody_has_the_former(broker):
    """Port 0 means any free port."""
    before = broker.connection.jobs
    broker.kill()
    with socket.create_server(("127.0.0.1", int(before.rpartition(":")[2]))), broker:
        assert broker.connection.jobs != before
        with Peer(broker.connection) as peer:
            peer.submit("a")
            peer.wait_state("a", "queued")


def test_everything_said_queued_is_there_after_a_kill(broker, peer):
    """And is dispatched once the leases of the former life are over."""
    names = [f"j{number}" for number in range(200)]
    for name in names:
        peer.submit(name)
    until(lambda: peer.listen() or all(peer.states(name) for name in names), DEADLINE_S)
    broker.kill()
    with broker, Peer(broker.connection) as other:
        assert set(other.replay(*names).values()) == {"queued"}
        other.join()
        assert other.take(Job).job_id in names


def test_a_kill_under_load_loses_nothing_that_was_said_queued(broker, peer):
    """Whatever the broker was doing."""
    said: set[str] = set()
    for round_ in range(3):
        for number in range(3000):
            peer.submit(f"r{round_}-{number}")
        peer.listen(1)
        broker.kill()
        peer.listen(0.2)
        said |= {message.job_id for _, message in peer.heard if hasattr(message, "job_id")}
        broker.__enter__()
        peer.__exit__(None, None, None)
        peer = Peer(broker.connection)
        peer.__enter__()
    answers: dict[str, str] = {}
    listed = sorted(said)
    for start in range(0, len(listed), 1000):
        answers |= peer.replay(*listed[start : start + 1000])
    peer.__exit__(None, None, None)
    assert said
    assert set(answers.values()) == {"queued"}


def test_an_end_is_there_after_a_kill(broker, peer):
    """A terminal state that was said is on disk."""
    peer.submit("a")
    worker = peer.join()
    job = peer.take(Job)
    peer.report(Done(worker, job.epoch, 900, "a", 1, "http://d/1.png", 2, 3, 4, {}))
    peer.wait_state("a", "done")
    broker.kill()
    with broker, Peer(broker.connection) as other:
        assert other.replay("a", "ghost") == {"a": "done", "ghost": "unknown"}


def test_a_worker_that_falls_silent_loses_its_job_within_its_lease_and_a_second(peer):
    """It goes to the next worker as the next attempt."""
    peer.submit("a")
    peer.join()
    assert peer.take(Job).attempt == 1
    with Peer(peer._connection) as other:
        worker = other.join()
        assert other.lane is not None
        came: list[object] = []

        def second_attempt() -> bool:
            other.beat(worker)  # all the while: its own lease is no longer
            while other.lane.poll(50):
                came.append(LANE.decode(other.lane.recv()))
            return any(isinstance(each, Job) and each.attempt == 2 for each in came)

        until(second_attempt, 2 + 1)


def test_a_full_queue_is_said_and_blocks_and_opens_again(tmp_path):
    """Beats say full, further submits wait in the pipes, and none is lost."""
    with BrokerProcess(tmp_path, queue_limit=5) as broker, Peer(broker.connection) as peer:
        for number in range(5):
            peer.submit(f"j{number}")
        until(lambda: peer.wait(BrokerBeat)[-1].full, DEADLINE_S)
        for number in range(5, 8):
            peer.submit(f"j{number}")
        peer.listen(0.3)
        assert not any(peer.states(f"j{number}") for number in range(5, 8))
        worker = peer.join(slots=8)
        for number in range(8):
            job = peer.take(Job)
            url = "http://d/1.png"
            peer.report(Done(worker, job.epoch, 900 + number, job.job_id, 1, url, 2, 3, 4, {}))
        for number in range(8):
            peer.wait_state(f"j{number}", "done")
        until(lambda: not peer.wait(BrokerBeat)[-1].full, DEADLINE_S)


def test_a_broker_that_ends_finishes_what_runs_and_refuses_the_rest(broker, peer):
    """The first SIGTERM drains: running jobs end, new ones are told to go elsewhere."""
    peer.submit("a")
    peer.submit("b")
    worker = peer.join()
    job = peer.take(Job)
    broker.process.send_signal(signal.SIGTERM)
    until(lambda: peer.wait(BrokerBeat)[-1].full, DEADLINE_S)
    peer.submit("c")
    refused = peer.wait(Refused)[-1]
    assert (refused.job_id, refused.reason) == ("c", "draining")
    peer.report(Done(worker, job.epoch, 900, job.job_id, 1, "http://d/1.png", 2, 3, 4, {}))
    assert broker.process.wait(DEADLINE_S) == 0
    with broker, Peer(broker.connection) as other:
        states = other.replay("a", "b")
        assert sorted(states.values()) == ["done", "queued"]
        other.join()
        assert other.take(Job).job_id in states  # at once: the end was clean


def test_a_second_signal_ends_it_at_once(broker, peer):
    """Without waiting for what runs; nothing is lost by it."""
    peer.submit("a")
    peer.join()
    peer.take(Job)
    broker.process.send_signal(signal.SIGTERM)
    until(lambda: peer.wait(BrokerBeat)[-1].full, DEADLINE_S)
    with pytest.raises(subprocess.TimeoutExpired):
        broker.process.wait(0.2)
    assert broker.stop() != 0


def test_dead_letters_are_listed_shown_tried_again_and_dropped(peer):
    """A failed job keeps its request and its story."""
    peer.submit("a", b'{"n":1}')
    worker = peer.join()
    job = peer.take(Job)
    peer.report(Failed(worker, job.epoch, 900, "a", 1, 401, "broken"))
    peer.wait_state("a", "failed")

    def ask(action: str, job_id: str = "") -> DeadLetters:
        count = len([m for _, m in peer.heard if isinstance(m, DeadLetters)])
        peer.say(Dead(peer.topic, action, job_id))
        return peer.wait(DeadLetters, count + 1)[-1]

    (letter,) = ask("list").letters
    assert (letter["id"], letter["code"], letter["detail"]) == ("a", 401, "broken")
    assert "payload" not in letter
    (letter,) = ask("show", "a").letters
    assert letter["payload"] == b'{"n":1}'
    (retried,) = ask("retry", "a").letters
    assert peer.take(Job).payload == b'{"n":1}'
    assert peer.states(retried["retried_as"]) or True
    assert "dropped" in ask("drop", "a").detail
    assert ask("list").letters == ()
    assert "there is no dead letter" in ask("show", "a").detail


def test_cancel_reaches_a_queued_job(peer):
    """Over the real sockets too."""
    peer.submit("a")
    peer.say(Cancel("a", peer.topic))
    peer.wait_state("a", "cancelled")


# --- the roll of workers


def test_recovered_jobs_go_out_as_soon_as_the_workers_are_back(tmp_path):
    """The lease is longer than this test waits; a second kill in between changes nothing."""
    with BrokerProcess(tmp_path, lease_s=600) as broker, Peer(broker.connection) as peer:
        first = peer.join()
        peer.submit("a")
        assert peer.take(Job).job_id == "a"
    with BrokerProcess(tmp_path, lease_s=600) as broker, Peer(broker.connection) as peer:
        second = peer.join(former=(first,))
        assert peer.take(Job).job_id == "a"
    with BrokerProcess(tmp_path, lease_s=600) as broker, Peer(broker.connection) as peer:
        peer.join(former=(first, second))
        assert peer.take(Job).job_id == "a"


def test_a_worker_that_does_not_come_back_is_waited_for_once(tmp_path):
    """Its lease counts from the first broker after its own, however often that one dies."""
    with BrokerProcess(tmp_path, lease_s=3) as broker, Peer(broker.connection) as peer:
        peer.join()
        peer.submit("a")
        peer.take(Job)
    awaited = set()
    for _ in range(3):
        with BrokerProcess(tmp_path, lease_s=3):
            awaited |= set(_roll(tmp_path))
    assert len(awaited) == 1
    with BrokerProcess(tmp_path, lease_s=3) as broker, Peer(broker.connection) as peer:
        worker = peer.join()
        until(lambda: peer.beat(worker) or [each for each, _ in _roll(tmp_path)] == [worker])
        assert peer.take(Job).job_id == "a"


def test_a_worker_that_left_is_waited_for_by_nobody(tmp_path):
    """Its row goes with it."""
    with BrokerProcess(tmp_path, lease_s=600) as broker, Peer(broker.connection) as peer:
        worker = peer.join()
        peer.submit("a")
        peer.take(Job)
        peer.report(Bye(worker, "drained"))
        until(lambda: _roll(tmp_path) == [])
    with BrokerProcess(tmp_path, lease_s=600) as broker, Peer(broker.connection) as peer:
        peer.join()
        assert peer.take(Job).job_id == "a"


def _roll(state: Path) -> list[tuple[str, float | None]]:
    with closing(sqlite3.connect(state / "journal.sqlite3")) as database:
        return database.execute("SELECT incarnation, until_s FROM roll").fetchall()

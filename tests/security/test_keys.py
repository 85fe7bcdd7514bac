"""A broker with keys: who gets in where, and who does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import zmq

from imgserve.client import Client
from imgserve.protocol.codec import JOBS
from imgserve.protocol.connection import Connection
from imgserve.protocol.events import JobState
from imgserve.protocol.jobs import Submit
from imgserve.protocol.keys import Domain, PeerKey, Role, ServerKey
from imgserve.protocol.sockets import secure_server
from imgserve.worker.agent import EXIT_TURNED_AWAY
from tests.broker.broker_process import DEADLINE_S, BrokerProcess
from tests.security.keyed import (
    KeyedPeer,
    greeting,
    huge_command,
    is_admitted,
    is_hung_up,
    key_of,
    keys,
    stranger,
    tcp,
)
from tests.support.until import until
from tests.support.worker_process import WorkerProcess

# Written down apart from the table that the broker goes by.
REACHES = {
    "submitter": {"jobs", "events"},
    "worker": {"reports", "events", "lane"},
    "watcher": {"events"},
}
KINDS = {"jobs": zmq.PUSH, "reports": zmq.PUSH, "events": zmq.SUB, "lane": zmq.PULL}


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker with keys that tests only knock at."""
    state = tmp_path_factory.mktemp("keyed")
    keys(state, "init")
    with BrokerProcess(state) as process:
        yield process


@pytest.fixture(scope="module")
def peer(broker):
    """A submitter and a worker with their keys."""
    own = key_of(broker.state, "local-submitter"), key_of(broker.state, "local-worker")
    with KeyedPeer(broker.connection, *own) as sockets:
        yield sockets


@pytest.fixture(scope="module")
def endpoints(broker, peer):
    """Where each kind of socket is; the worker's own lane among them."""
    peer.join()
    place = broker.connection
    lane = peer.lane.last_endpoint.decode()
    return {"jobs": place.jobs, "reports": place.reports, "events": place.events, "lane": lane}


@pytest.mark.parametrize("role", REACHES)
@pytest.mark.parametrize("domain", KINDS)
def test_a_role_reaches_its_own_sockets_only(broker, endpoints, role, domain):
    """A watcher cannot submit, a submitter cannot report or take a lane, and so on."""
    key = key_of(broker.state, f"local-{role}")
    admitted = is_admitted(KINDS[domain], endpoints[domain], key)
    assert admitted == (domain in REACHES[role])


@pytest.mark.parametrize("domain", KINDS)
def test_a_key_that_nobody_permitted_reaches_nothing(broker, endpoints, domain):
    """CURVE alone would admit it."""
    key = stranger(Role.WORKER, key_of(broker.state, "local-worker"))
    assert not is_admitted(KINDS[domain], endpoints[domain], key)


@pytest.mark.parametrize("domain", KINDS)
def test_a_peer_without_a_key_reaches_nothing(endpoints, domain):
    """There is no way back to no keys."""
    assert not is_admitted(KINDS[domain], endpoints[domain], None)


@pytest.mark.parametrize("domain", KINDS)
def test_a_peer_that_expects_another_broker_finds_none(broker, endpoints, domain):
    """The broker proves itself, too."""
    own = key_of(broker.state, "local-worker")
    pair = {"public": own.public, "secret": own.secret, "server": ServerKey.make().public}
    key = PeerKey(role=own.role, name=own.name, **pair)
    assert not is_admitted(KINDS[domain], endpoints[domain], key)


@pytest.mark.parametrize("domain", KINDS)
@pytest.mark.parametrize(
    "hello",
    [
        b"\x01\x00",
        b"\xff" + bytes(7) + b"\x01\x7f\x01\x08\x00\x00",
        greeting(b"NULL"),
        greeting(b"PLAIN"),
        greeting(b"CURVE") + huge_command(2**40),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["zmtp1", "zmtp2", "null", "plain", "huge", "http"],
)
def test_older_or_weaker_protocols_are_hung_up_on(endpoints, domain, hello):
    """ZMTP 1 and 2 know no keys, and a stranger's frame of a terabyte is not waited for."""
    with tcp(endpoints[domain]) as connection:
        connection.sendall(hello)
        assert is_hung_up(connection)


def test_strangers_cost_no_memory(broker, endpoints, peer):
    """What a stranger announces is not allocated, and the next job is taken."""
    process = psutil.Process(broker.process.pid)
    before_bytes = process.memory_info().rss
    for _ in range(20):
        with tcp(endpoints["jobs"]) as connection:
            connection.sendall(greeting(b"CURVE") + huge_command(2**31) + bytes(100_000))
            assert is_hung_up(connection)
    assert process.memory_info().rss - before_bytes < 50_000_000
    peer.submit("after-strangers")
    peer.wait_state("after-strangers", "queued")


def test_what_a_watcher_submits_is_not_heard(broker, peer):
    """Nor kept for later."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as jobs:
        jobs.linger = 0
        key = key_of(broker.state, "local-watcher")
        for option, value in (
            (zmq.CURVE_PUBLICKEY, key.public),
            (zmq.CURVE_SECRETKEY, key.secret),
            (zmq.CURVE_SERVERKEY, key.server),
        ):
            jobs.setsockopt_string(option, value)
        jobs.connect(broker.connection.jobs)
        jobs.send(JOBS.encode(Submit("of-a-watcher", peer.topic, 0, b"{}")))
        assert not is_admitted(zmq.PUSH, broker.connection.jobs, key)
        assert peer.replay("of-a-watcher") == {"of-a-watcher": "unknown"}


def test_the_clients_of_this_machine_find_their_key_themselves(broker):
    """The connection file's folder has it."""
    with Client(broker.connection_file) as client:
        assert client.stats(timeout_s=DEADLINE_S)["epoch"] == broker.connection.epoch


def test_a_client_with_a_key_does_not_speak_to_a_broker_without(tmp_path, broker):
    """A connection file that was changed on its way gets no requests."""
    place = broker.connection
    parts = {name: getattr(place, name) for name in Connection.__slots__ if name != "server_key"}
    Connection(**parts).write(tmp_path / "connection.json")
    key = broker.state / "keys" / "local-submitter.key"
    with Client(tmp_path / "connection.json", key=key, flush_s=0) as client:
        assert not client._session._link.connection


def test_a_permitted_key_counts_without_a_restart(tmp_path):
    """And revoking it turns out whoever is connected with it; other peers and jobs stay."""
    keys(tmp_path, "init")
    with BrokerProcess(tmp_path) as broker:
        keys(tmp_path, "new", "submitter", "guest")
        guest, worker = key_of(tmp_path, "guest"), key_of(tmp_path, "local-worker")
        until(lambda: is_admitted(zmq.PUSH, broker.connection.jobs, guest))
        with KeyedPeer(broker.connection, guest, worker) as peer:
            peer.submit("of-a-guest")
            peer.wait_state("of-a-guest", "queued")
            assert broker._epoch() == broker.connection.epoch
            keys(tmp_path, "revoke", "guest")
            until(lambda: broker._epoch() not in ("", broker.connection.epoch))
            assert not is_admitted(zmq.PUSH, broker.connection.jobs, guest)
            assert not is_admitted(zmq.SUB, broker.connection.events, guest)
        assert Connection.read(broker.connection_file).jobs == broker.connection.jobs
        own = key_of(tmp_path, "local-submitter")
        with KeyedPeer(broker.connection, own, worker) as peer:
            assert peer.replay("of-a-guest") == {"of-a-guest": "queued"}
        assert broker.process.poll() is None
        assert broker.stop() == 0


def test_a_worker_with_a_key_that_nobody_permitted_says_so_and_ends(tmp_path, broker):
    """It does not wait for a broker that is there and will not have it."""
    stranger(Role.WORKER, key_of(broker.state, "local-worker")).write(tmp_path / "stranger.key")
    key = str(tmp_path / "stranger.key")
    with WorkerProcess(broker.connection_file, tmp_path / "log", key=key) as worker:
        assert worker.wait() == EXIT_TURNED_AWAY
        assert "the broker refuses the key of this worker" in worker.log


def test_a_worker_whose_key_is_revoked_says_so_and_ends(tmp_path):
    """Also one that has joined with it."""
    keys(tmp_path, "init")
    keys(tmp_path, "new", "worker", "guest")
    key = str(shutil.copy(tmp_path / "keys" / "guest.key", tmp_path))  # revoking deletes its own
    with (
        BrokerProcess(tmp_path) as broker,
        WorkerProcess(broker.connection_file, tmp_path / "worker", key=key) as worker,
    ):
        until(lambda: "welcomed" in worker.log)
        keys(tmp_path, "revoke", "guest")
        assert worker.wait() == EXIT_TURNED_AWAY
        assert "the broker refuses the key of this worker" in worker.log


def test_a_broker_that_lost_its_keys_ends(tmp_path):
    """It does not go on without."""
    keys(tmp_path, "init")
    with BrokerProcess(tmp_path) as broker:
        own = key_of(tmp_path, "local-submitter"), key_of(tmp_path, "local-worker")
        with KeyedPeer(broker.connection, *own):
            (tmp_path / "keys").rename(tmp_path / "elsewhere")
            assert broker.process.wait(DEADLINE_S) != 0
        assert "does not go on without its keys" in broker.log


def test_a_broker_whose_authenticator_dies_ends(tmp_path):
    """A handler that raises takes the broker with it, and lets nobody in."""
    keys(tmp_path, "init")
    program = (
        "import sys\n"
        "from imgserve.broker.guard import Guard\n"
        "from imgserve.cli import main\n"
        "def die(*_): raise RuntimeError('the authenticator is dead')\n"
        "Guard._judge = die\n"
        f"sys.exit(main(['broker', '--state={tmp_path}', '--broker-port=0']))\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", program], stderr=log)
    try:
        until((tmp_path / "connection.json").exists, DEADLINE_S)
        connection = Connection.read(tmp_path / "connection.json")
        assert not is_admitted(zmq.PUSH, connection.jobs, key_of(tmp_path, "local-submitter"))
        assert process.wait(DEADLINE_S) != 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("domain", Domain)
def test_nobody_is_admitted_while_no_authenticator_answers(domain):
    """A domain that is not enforced would admit every key."""
    server = ServerKey.make()
    with zmq.Context() as context, context.socket(zmq.PULL) as bound:
        secure_server(bound, server, domain)
        port = bound.bind_to_random_port("tcp://127.0.0.1")
        key = PeerKey.make(Role.SUBMITTER, "somebody", server.public)
        assert not is_admitted(zmq.PUSH, f"tcp://127.0.0.1:{port}", key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_server_key_that_others_can_read_is_refused(tmp_path, mode):
    """The broker says which file it is and what to do."""
    keys(tmp_path, "init")
    (tmp_path / "keys" / "server.key").chmod(mode)
    words = [sys.executable, "-m", "imgserve", "broker", f"--state={tmp_path}", "--broker-port=0"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert run.returncode == 78
    assert "chmod 600" in run.stderr


def test_keys_lift_the_refusal_to_bind_beyond_loopback(tmp_path):
    """Without keys the broker says what to do, and ends."""
    words = ["broker", f"--state={tmp_path}", "--broker-port=0", "--broker-host=0.0.0.0"]
    run = subprocess.run(
        [sys.executable, "-m", "imgserve", *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert run.returncode == 78
    assert "imgserve keys init" in run.stderr
    keys(tmp_path, "init")
    with BrokerProcess(tmp_path, broker_host="0.0.0.0") as broker:  # noqa: S104
        own = key_of(tmp_path, "local-submitter"), key_of(tmp_path, "local-worker")
        with KeyedPeer(broker.connection, *own) as peer:
            peer.submit("from-afar")
            assert isinstance(peer.wait(JobState)[0], JobState)


def test_secret_files_are_for_their_owner_alone(tmp_path):
    """Whatever the umask is."""
    keys(tmp_path, "init")
    keys(tmp_path, "new", "worker", "node7")
    secrets: list[Path] = sorted((tmp_path / "keys").glob("*.key"))
    assert len(secrets) == 5
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700

"""The life of a real service: restarts of parts, stop, -KILL, and death of the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from urllib.error import URLError

import pytest
from PIL import Image

from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.listening import listen
from imgserve.commands.processes import alive
from imgserve.config import Settings
from tests.support.command_line import SMALL, environment
from tests.support.eventually import eventually
from tests.support.http_server import Reply
from tests.support.images import encode
from tests.support.supervised import supervise


def _answers(url, path="/readyz"):
    try:
        with urllib.request.urlopen(url + path, timeout=5) as response:  # noqa: S310
            return response.status == 200
    except (URLError, OSError):
        return False


def test_stop_leaves_nothing(service):
    """After stop no process is left, and pid, connection and service file are gone."""
    service.start()
    ended = service.run("stop")
    assert (ended.returncode, ended.stdout) == (0, "imgserve has stopped\n")
    assert not service.left()
    names = {path.name for path in service.state.iterdir()}
    assert not names & {"imgserve.pid", "connection.json", "service.json"}


def test_stop_says_what_it_waits_for(service):
    """Parts end one after the other: gateway, worker, broker; each is named while it is awaited."""
    service.start()
    lines = service.run("stop").stderr.splitlines()
    parts = [line.rpartition(" ")[2] for line in lines]
    assert parts == [part for part in ("gateway", "worker", "broker") if part in parts]
    assert parts


def test_a_long_stop_says_how_many_jobs_are_in_flight(service, http):
    """While a job keeps the worker, stop counts what it waits for; the job is done in the end."""
    service.start()
    gate = threading.Event()
    picture = encode(Image.effect_noise((300, 200), 60), "PNG")
    http.script["/slow.png"] = [Reply(body=picture, gate=gate, gate_at=len(picture) // 2)]
    request = {
        "operationType": "resize",
        "srcURL": http.url("/slow.png"),
        "dstURL": http.url("/result.png"),
        "args": {"width": 30, "height": 20, "method": "PUT"},
    }
    urllib.request.urlopen(service.record.url, json.dumps(request).encode()).close()  # noqa: S310
    command = [sys.executable, "-m", "imgserve", "stop", f"--state={service.state}"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as stopping:
        line = next(line for line in stopping.stderr if "in flight" in line)
        assert line == "imgserve: jobs in flight: 1\n"
        gate.set()
        assert stopping.wait(20) == 0
        stopping.stderr.read()
    assert len(http.stored["/result.png"]) > 0
    assert [each.method for each in http.requests] == ["GET", "PUT", "PUT"]


def test_stop_without_a_service_has_its_own_exit_code(service):
    """With nothing to stop, the sentence names the state folder."""
    service.state.mkdir()
    ended = service.run("stop")
    assert ended.returncode == ExitCode.NOT_RUNNING
    assert str(service.state) in ended.stderr


def test_kill_ends_everything_at_once(service):
    """-KILL leaves no process, and no file that a start would trip over."""
    service.start()
    ended = service.run("stop", "-KILL")
    assert ended.returncode == 0, ended.stderr
    assert not service.left()
    assert not (service.state / "imgserve.pid").exists()


def test_a_killed_supervisor_leaves_no_orphans(service):
    """When the supervisor is killed the kernel kills its parts, and the next start succeeds."""
    service.start()
    os.kill(service.record.pid, signal.SIGKILL)
    eventually(lambda: not service.left())
    service.start()
    assert service.status()["ready"]


@pytest.mark.parametrize("part", ["gateway", "broker", "worker"])
def test_a_part_that_dies_is_started_again(service, part):
    """A killed part is replaced, and the service takes jobs again on the same port."""
    service.start()
    before = service.record
    os.kill(before.parts[part][0], signal.SIGKILL)
    eventually(lambda: service.record.restarts == 1 and service.record.parts[part])
    after = service.record
    assert after.parts[part] != before.parts[part]
    assert after.pid == before.pid
    eventually(lambda: _answers(before.url), timeout_s=20)


def test_connections_wait_while_the_gateway_is_away(service):
    """A connection made while no gateway lives is answered by the next one."""
    service.start()
    record = service.record
    os.kill(record.parts["gateway"][0], signal.SIGKILL)
    with socket.create_connection((record.host, record.port), timeout=15) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 200 " in connection.recv(100)


def test_restart_takes_new_flags(service):
    """Restart ends the running service and starts another with the flags given."""
    service.start()
    before = service.record
    ended = service.run("restart", *SMALL, "--gateway-processes=2")
    assert ended.returncode == 0, ended.stderr
    status = service.status()
    assert len(status["gateways"]) == 2
    assert status["gateway"] == status["gateways"][0]
    assert status["pid"] != before.pid
    assert not alive(before.pid)


def test_restart_without_a_service_starts_one(service):
    """Restart where nothing runs is a start."""
    assert service.run("restart", *SMALL).returncode == 0
    assert service.status()["ready"]


def test_strangers_who_hold_all_connections_do_not_hinder_a_start(tmp_path, monkeypatch):
    """The supervisor asks for readiness at the probes' own port, where strangers have no place."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        state=tmp_path,
        broker_port=0,
        processes=1,
        http_connection_limit=4,
        http_address_limit=4,
        http_idle_timeout_s=120,
    )
    listener = listen("127.0.0.1", 0, "-port")
    seen = []

    def announce(news):
        seen.append(news)
        os.kill(os.getpid(), signal.SIGTERM)

    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        assert supervise(settings, listener, announce, tmp_path / "log") == ExitCode.OK
    assert [(news.ready, news.reason) for news in seen] == [(True, "")]
    assert seen[0].record.probe_url != seen[0].record.url


def test_probes_are_answered_apart_from_http(running):
    """`status` names the port, and asks there itself."""
    status = running.status()
    assert status["probe_url"].startswith("http://127.0.0.1:")
    assert all(_answers(status["probe_url"], path) for path in ("/healthz", "/readyz", "/metrics"))
    assert not _answers(status["probe_url"], "/queue")

"""`imgserve status`: for people, for programs, and when things do not answer."""

from __future__ import annotations

import os
import signal
import time

from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.processes import alive
from imgserve.commands.status_view import details


def test_json_names_every_process(running):
    """The pids of gateway, broker, workers and pixel processes are those of live processes."""
    status = running.status()
    worker = status["workers"][0]
    pids = [status["pid"], status["gateway"], status["broker"], worker["pid"]]
    pids += worker["pixel_pids"]
    assert len(pids) == 5
    assert all(alive(pid) for pid in pids)
    assert (worker["slots"], worker["busy"]) == (8, 0)


def test_json_tells_where_and_how_it_goes(running):
    """URL, version, places and the queue are there for monitoring."""
    status = running.status()
    assert status["running"]
    assert status["ready"]
    assert status["url"] == f"http://127.0.0.1:{status['port']}"
    assert status["state_dir"] == str(running.state)
    assert status["queue"]["queue_length"] == 0
    assert status["queue"]["credit"] == 8


def test_people_get_a_table(running):
    """Without --json the first line says where it serves, and each worker has a row."""
    ended = running.run("status")
    status = running.status()
    assert ended.returncode == 0
    assert ended.stdout.startswith(f"imgserve {status['version']} serves {status['url']}")
    assert str(status["workers"][0]["pid"]) in ended.stdout


def test_nothing_running_is_exit_code_3(service):
    """Where no service runs, status says how to start one, and its exit code is LSB's."""
    ended = service.run("status")
    assert ended.returncode == ExitCode.NOT_RUNNING == 3
    assert "imgserve start" in ended.stdout
    assert service.run("status", "--json").returncode == 3


def test_a_hanging_broker_does_not_hang_status(service):
    """With the broker stopped, status still answers in seconds and says that it is silent."""
    service.start()
    broker = service.record.parts["broker"][0]
    os.kill(broker, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        status = service.status()
        assert time.monotonic() - began_s < 15
        assert (status["running"], status["broker_answers"]) == (True, False)
        assert status["broker"] == broker
        assert "the broker does not answer" in service.run("status").stdout
    finally:
        os.kill(broker, signal.SIGCONT)


def test_what_the_machine_lacks_is_told():
    """Status has a line for missing fonts or parts of the sandbox, and none for what is there."""
    status = {
        "running": True,
        "gateways": [1],
        "broker": 2,
        "restarts": 0,
        "started_at": "now",
        "state_dir": "/s",
        "log_file": "/l",
        "broker_answers": False,
        "asks_for_tokens": True,
        "machine": {"fonts": "no font under /usr", "sandbox_seccomp": True},
    }
    lines = details(status)
    assert "HTTP asks for tokens" in lines
    assert "fonts: no font under /usr" in lines
    assert not any("seccomp" in line for line in lines)


def test_json_tells_what_the_machine_has(running):
    """Fonts and sandbox are true, or a sentence."""
    machine = running.status()["machine"]
    assert {"fonts", "sandbox_landlock_files", "sandbox_seccomp"} <= machine.keys()
    assert all(had is True or len(str(had)) > 10 for had in machine.values())

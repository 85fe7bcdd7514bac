"""`imgserve start`: what it refuses, in one sentence and with a named exit code."""

from __future__ import annotations

import os
import re
import socket

from imgserve.commands.exit_codes import ExitCode
from tests.support.command_line import ROOT, SMALL


def _refused(ended, exit_code, *words):
    assert ended.returncode == exit_code
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    for word in words:
        assert str(word) in ended.stderr


def test_a_second_start_says_who_runs(running):
    """With the same state folder, start names the pid of the running service and leaves it."""
    pid = running.record.pid
    _refused(running.run("start", *SMALL), ExitCode.ALREADY_RUNNING, "runs already", pid)
    assert running.status()["pid"] == pid


def test_a_taken_http_port_is_refused(service):
    """A port that another program listens on is named, with the flag to change."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = service.run("start", "-host", "127.0.0.1", "-port", str(port), "-broker-port=0")
    _refused(ended, ExitCode.PORT_TAKEN, port, "-port")
    assert not (service.state / "imgserve.pid").exists()


def test_a_taken_broker_port_is_refused(service):
    """The ports that the broker will bind are checked before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = service.run("start", *SMALL, f"--broker-port={port}")
    _refused(ended, ExitCode.PORT_TAKEN, port, "--broker-port")


def test_the_state_folder_is_made_for_its_user_alone(running):
    """A state folder whose parent exists is made with mode 0700."""
    assert running.state.stat().st_mode & 0o777 == 0o700


def test_a_state_folder_without_a_parent_is_refused(service):
    """Folders are not made all the way down: a mistyped path is an error."""
    service.state = service.state / "not" / "there"
    _refused(service.run("start", *SMALL), ExitCode.CANNOT_CREATE, service.state, "--state")


def test_a_state_that_is_a_file_is_refused(service):
    """A file where the state folder should be is an error, not a crash."""
    service.state.write_text("")
    _refused(service.run("start", *SMALL), ExitCode.CANNOT_CREATE, "is a file")


def test_a_missing_file_root_is_refused(service, tmp_path):
    """A --file-root that does not exist is named."""
    missing = tmp_path / "pictures"
    ended = service.run("start", *SMALL, f"--file-root={missing}")
    _refused(ended, ExitCode.NO_INPUT, "--file-root", missing)


def test_a_wrong_setting_is_refused_with_its_name_and_value(service):
    """A setting out of range is named with its value and what is allowed."""
    ended = service.run("start", "--port=99999")
    _refused(ended, ExitCode.CONFIG, "port", "99999", "65535")


def test_one_key_for_two_parts_is_refused(running):
    """Its gateway or its worker would wait for ever; a service that runs is not stopped for it."""
    key = running.state / "keys" / "local-worker.key"
    for command in ("start", "restart"):
        ended = running.run(command, *SMALL, f"--key={key}")
        _refused(ended, ExitCode.CONFIG, key, "a key each", "imgserve keys init")
    assert running.status()["pid"] == running.record.pid


def test_a_stale_pid_file_is_no_service(service):
    """A pid file that nobody holds is taken over, even when its pid is alive."""
    service.state.mkdir()
    (service.state / "imgserve.pid").write_text(f"{os.getpid()}\n")
    service.start()
    assert service.status()["pid"] != os.getpid()


def test_the_ready_line_names_url_pid_and_places(service):
    """Start returns when jobs can be taken, and says where and which process."""
    line = service.start().stdout
    status = service.status()
    assert status["ready"]
    for word in (status["url"], status["pid"], status["state_dir"], status["log_file"]):
        assert str(word) in line


def test_an_open_port_is_warned_of(service):
    """HTTP beyond loopback is served, with one line of warning."""
    ended = service.start("--host=0.0.0.0")
    assert "warning: HTTP listens on 0.0.0.0" in ended.stderr


def test_a_part_that_fails_fails_the_start_with_the_log(service):
    """When a part ends at once, start shows the end of the log, and nothing is left running."""
    service.state.mkdir()
    (service.state / "broker.lock").mkdir()  # where the broker wants a file
    ended = service.run("start", *SMALL)
    assert ended.returncode == ExitCode.UNAVAILABLE
    assert "the broker ended during the start" in ended.stderr
    assert "broker[" in ended.stderr
    assert not (service.state / "imgserve.pid").exists()
    assert not service.left()


def test_every_exit_code_is_documented():
    """docs/operations.md has a row for each exit code, and no others."""
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", page, re.MULTILINE)
    assert rows == [(str(code.value), code.name) for code in ExitCode]

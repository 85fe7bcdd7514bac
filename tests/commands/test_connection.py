"""`imgserve connection`, and the keyboard of `imgserve top`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time

from imgserve.cli import main
from imgserve.commands.exit_codes import ExitCode
from imgserve.protocol.connection import Connection
from tests.support.service import command, eventually


def test_it_prints_what_the_broker_would_write(tmp_path, capsys):
    """Host and ports as they were named, and the public key of the state folder's keys."""
    state = str(tmp_path / "state")
    assert main(["keys", "init", "--state", state]) == ExitCode.OK
    capsys.readouterr()
    words = ["connection", "--advertise", "b.example", "--broker-port", "7000", "--state", state]
    assert main(words) == ExitCode.OK
    path = tmp_path / "connection.json"
    path.write_text(capsys.readouterr().out)
    connection = Connection.read(path)
    assert connection.jobs == "tcp://b.example:7000"
    assert connection.events == "tcp://b.example:7002"
    server = json.loads((tmp_path / "state" / "keys" / "server.key").read_text())
    assert connection.server_key == server["public"]
    assert server["secret"] not in path.read_text()


def test_an_address_that_is_left_open_is_a_usage_error(tmp_path, capsys):
    """Without a host, or with any free port, there is nothing to print."""
    for flags in ([], ["--advertise", "b", "--broker-port", "0"]):
        assert main(["connection", "--state", str(tmp_path), *flags]) == ExitCode.USAGE
        assert "needs --advertise" in capsys.readouterr().err


def test_top_refreshes_until_q(running):
    """On a terminal it draws again and again, and ends with q."""
    ours, theirs = pty.openpty()
    words = command("top", "--state", str(running.state), "--interval", "0.2")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, env=environment)
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = b""

    def drawn():
        nonlocal seen
        try:
            seen += os.read(ours, 100_000)
        except BlockingIOError:
            time.sleep(0.02)
        return seen.count(b"imgserve broker") >= 3

    try:
        eventually(drawn, "three pictures", timeout_s=30)
        os.write(ours, b"q")
        assert process.wait(10) == ExitCode.OK
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_top_without_a_broker_is_a_sentence(tmp_path, capsys):
    """Exit 66, with the file that is not there."""
    assert main(["top", "--state", str(tmp_path)]) == ExitCode.NO_INPUT
    assert "there is no such file, so no broker runs there" in capsys.readouterr().err

"""`imgserve restart`: what was in force stays, nobody is refused, nothing is stopped in vain."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.processes import alive
from tests.support.command_line import SMALL, Daemon
from tests.support.lesser_kernel import PRCTL, launcher


def ask(port: int, host: str = "127.0.0.1") -> str:
    """Connect, ask, and tell how that ended."""
    try:
        with socket.create_connection((host, port), 10) as one:
            one.settimeout(20)
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return "answered" if b" 200 " in one.recv(200) else "unanswered"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "broken"


def test_nobody_is_refused_while_the_service_restarts(service: Daemon):
    """Clients that connect meanwhile wait for the new gateway; the port stays the same."""
    service.start()
    port, seen, over = service.record.port, Counter[str](), threading.Event()

    def connect() -> None:
        while not over.is_set():
            seen[ask(port)] += 1
            over.wait(0.005)

    clients = [threading.Thread(target=connect) for _ in range(4)]
    for client in clients:
        client.start()
    ended = [service.run("restart") for _ in range(3)]
    over.set()
    for client in clients:
        client.join()
    assert [each.returncode for each in ended] == [0, 0, 0], ended[0].stderr
    assert seen.keys() == {"answered"}, seen
    assert service.record.port == port


def test_what_was_in_force_stays(service: Daemon, tmp_path: Path):
    """Flags, environment and file of the former start, each below what is newer."""
    config = tmp_path / "imgserve.toml"
    config.write_text("queue_limit = 11\nlease_s = 7\nwaiting_limit = 21\n")
    started = service.run(
        "start", *SMALL, f"--config={config}", "--crash-limit=5",
        variables={"IMGSERVE_LEASE_S": "8", "IMGSERVE_RETRY_LIMIT": "2", "IMGSERVE_FILE_ROOT": "/"},
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    config.write_text("queue_limit = 12\nlease_s = 7\nwaiting_limit = 22\n")
    ended = service.run(
        "restart", "--waiting-limit=23", variables={"IMGSERVE_RETRY_LIMIT": "3"}, cwd="/"
    )
    assert ended.returncode == 0, ended.stderr
    effective = service.record.origin.effective
    kept = {name: effective[name] for name in ("crash_limit", "lease_s", "file_root", "port")}
    assert kept == {"crash_limit": "5", "lease_s": "8.0", "file_root": "/", "port": "0"}
    newer = {name: effective[name] for name in ("queue_limit", "retry_limit", "waiting_limit")}
    assert newer == {"queue_limit": "12", "retry_limit": "3", "waiting_limit": "23"}
    shown = [line for line in ended.stderr.splitlines() if " -> " in line]
    assert sorted(shown) == [
        "imgserve: queue_limit: 11 -> 12",
        "imgserve: retry_limit: 2 -> 3",
        "imgserve: waiting_limit: 21 -> 23",
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--lease-s=-1",), ExitCode.CONFIG, "lease_s"),
        (("--port={taken}",), ExitCode.PORT_TAKEN, "{taken}"),
        (("--probe-port={taken}",), ExitCode.PORT_TAKEN, "{taken}"),
        (("--broker-port={taken}",), ExitCode.PORT_TAKEN, "{taken}"),
        (("--token-file=/nowhere/tokens.json",), ExitCode.CONFIG, "/nowhere/tokens.json"),
        (("--tls-cert=/nowhere/cert.pem",), ExitCode.CONFIG, "/nowhere/cert.pem"),
        (("--config=/nowhere/imgserve.toml",), ExitCode.CONFIG, "/nowhere/imgserve.toml"),
        (("--file-root=/nowhere",), None, "/nowhere"),
    ],
)
def test_restart_that_cannot_succeed_leaves_the_service_as_it_is(
    running: Daemon, words: tuple[str, ...], code: int | None, said: str
):
    """It says what is wrong; not one process is another."""
    before = running.record
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        ended = running.run("restart", *(word.format(taken=taken) for word in words))
    assert ended.returncode == code if code else ended.returncode != 0
    assert said.format(taken=taken) in ended.stderr
    assert running.record == before
    assert ask(before.port) == "answered"


@pytest.mark.skipif(
    os.uname().machine not in PRCTL, reason="no filter is written for this architecture"
)
def test_former_service_is_started_again_where_the_new_one_fails(service: Daemon):
    """Only its worker finds out that the kernel lacks what the new flag asks for."""
    service.start()
    before = service.record
    ended = service.run("restart", "--require-sandbox", launcher=launcher("landlock"))
    assert ended.returncode != 0
    assert "the former service is started again" in ended.stderr
    assert not alive(before.pid)
    assert ask(before.port) == "answered"
    assert service.record.origin.effective == before.origin.effective


def test_sockets_are_given_to_this_user_alone(running: Daemon):
    """The socket is its owner's, and is gone with the service."""
    path = running.state / "handover.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_uid == os.geteuid()

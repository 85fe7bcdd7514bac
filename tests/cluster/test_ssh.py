"""`scripts/cluster/ssh` against a real sshd on loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.cluster import ROOT
from tests.cluster.local import local_broker, wrapper
from tests.support.service import eventually

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

pytestmark = pytest.mark.skipif(
    not Path(SSHD).exists() or not shutil.which("ssh"),
    reason="sshd or ssh is missing (Debian: openssh-server)",
)


@pytest.fixture
def ssh(tmp_path):
    """Return the call of ssh that reaches an sshd of this test, with a key of this test."""
    for name in ("host", "user"):
        make = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
        subprocess.run(make, check=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = tmp_path / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nPidFile none\n"
        f"AuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (tmp_path / "sshd.log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log)
    known = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    user = f"-i {tmp_path}/user -l {getpass.getuser()} -o BatchMode=yes"
    try:
        eventually(lambda: _answers(port), "sshd")
        yield f"ssh -F none -p {port} {known} {user}"
    finally:
        server.terminate()
        server.wait(10)


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_workers_are_started_shown_drained_and_stopped(ssh, tmp_path):
    """Each action says of each host how it went, and a host that cannot be reached does not."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 1  # this one\n")

    def call(action, *more, code=0):
        fixed = ("--ssh", ssh, "--imgserve", str(wrapper(tmp_path)))
        folder = ("--folder", str(tmp_path / "worker"))
        words = [ROOT / "scripts/cluster/ssh", *fixed, *folder, hosts, action, *more]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout

    with local_broker(tmp_path) as broker:
        assert "127.0.0.1: joined as" in call("start", broker.connection, "--", "--tags", "far")
        [worker] = broker.wait_for_workers(1)
        assert worker["tags"] == ("far",)
        assert (tmp_path / "worker/connection.json").stat().st_mode & 0o777 == 0o600
        assert f"runs as {worker['pid']}" in call("status")
        assert f"runs already as {worker['pid']}" in call("start", broker.connection)
        assert "127.0.0.1: drained" in call("drain")
        assert broker.figures()["departed"][0]["reason"] == "asked to end"
        assert "does not run" in call("status", code=1)
        call("start", broker.connection)
        broker.wait_for_workers(1)
        began_s = time.monotonic()
        assert "127.0.0.1: stopped" in call("stop")
        assert time.monotonic() - began_s < 10
        said = call("start", broker.connection, "--", "--tugs", "far", code=1)
        assert "127.0.0.1: did not start: " in said
        assert "--tugs" in said
        hosts.write_text("127.0.0.1\nno-such-host.invalid\n")
        said = call("status", code=1)
        assert "no-such-host.invalid: " in said
        assert "127.0.0.1: does not run" in said

"""What goes wrong when a worker is launched: a sentence with what to do, and a named exit code."""

from __future__ import annotations

import json
import socket
import subprocess
import time

import pytest

from imgserve.commands.exit_codes import ExitCode
from tests.cluster.cluster import ROOT, imgserve
from tests.cluster.local import local_broker
from tests.support.service import eventually

LOCAL = {"protocol": 1, "version": "0", "epoch": "e"} | dict.fromkeys(
    ("jobs", "reports", "events"), "tcp://127.0.0.1:9"
)


def end_of_worker(folder, *flags, part="worker"):
    """Run a part to its end; return its exit code and its log."""
    words = imgserve(part, "--state", str(folder), *flags)
    few = ("--processes", "1") if part == "worker" else ()
    ended = subprocess.run(
        [*words, *few], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )
    return ended.returncode, ended.stderr


def test_a_broker_that_never_comes(tmp_path):
    """After the death timeout: exit 68, and the file that was waited for."""
    code, log = end_of_worker(tmp_path, "--death-timeout", "1s")
    assert code == ExitCode.NO_BROKER
    assert f"giving up: no broker for 1 s: {tmp_path}/connection.json is not there yet" in log


def test_a_file_that_is_no_connection_file(tmp_path):
    """It is waited for a good one, and the end says what was wrong with this one."""
    (tmp_path / "connection.json").write_text("{}")
    code, log = end_of_worker(tmp_path, "--death-timeout", "1s")
    assert code == ExitCode.NO_BROKER
    assert "is not a connection file of an imgserve broker" in log


def test_an_old_connection_file(tmp_path):
    """Nobody listens where it says: the endpoint and the file are named, with what to check."""
    (tmp_path / "connection.json").write_text(json.dumps(LOCAL))
    code, log = end_of_worker(tmp_path, "--death-timeout", "1s")
    assert code == ExitCode.NO_BROKER
    assert "nothing answers at tcp://127.0.0.1:9" in log
    assert "is the file its latest" in log


def test_a_broker_of_another_protocol_version(tmp_path):
    """The worker ends at once, exit 76, with both versions in the sentence."""
    (tmp_path / "connection.json").write_text(json.dumps(LOCAL | {"protocol": 2}))
    code, log = end_of_worker(tmp_path)
    assert code == ExitCode.TURNED_AWAY
    assert "speaks protocol version 2; this imgserve" in log
    assert "speaks version 1: run the same imgserve on both" in log


def test_a_liveness_file_that_cannot_be_written(tmp_path):
    """Exit 73, with the setting and what to do."""
    code, log = end_of_worker(tmp_path, "--liveness-file", str(tmp_path / "no" / "file"))
    assert code == ExitCode.CANNOT_CREATE
    assert "liveness_file" in log
    assert "in a folder that exists and has room" in log


def test_no_fonts_where_they_are_demanded(tmp_path):
    """With --require-fonts on a host without one: exit 72, and what to install."""
    hidden = "mount -t tmpfs tmpfs /usr/share/fonts && mount -t tmpfs tmpfs /usr/local/share/fonts"
    words = imgserve("worker", "--state", str(tmp_path), "--processes", "1", "--require-fonts")
    own = ["unshare", "--mount", "sh", "-c", f'{hidden} || exit 99; exec "$@"', "sh"]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        [*own, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env=environment,
    )
    if "unshare" in ended.stderr or ended.returncode == 99:
        pytest.skip(f"font folders cannot be hidden here: {ended.stderr.strip()}")
    assert ended.returncode == ExitCode.NO_FONTS
    assert "no font under" in ended.stderr
    assert "install fonts, for example fonts-dejavu-core" in ended.stderr


def test_a_broker_without_room_on_its_disk(tmp_path):
    """Exit 73, and a sentence that says to make room, instead of a trace."""
    own = ["unshare", "--mount", "sh", "-c", SMALL_DISK, "sh", str(tmp_path)]
    words = imgserve("broker", "--broker-port", "0", "--state", str(tmp_path))
    ended = subprocess.run(
        [*own, *words], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )
    if "unshare" in ended.stderr or ended.returncode == 99:
        pytest.skip(f"a small disk cannot be made here: {ended.stderr.strip()}")
    assert ended.returncode == ExitCode.CANNOT_CREATE, ended.stderr
    assert "disk is full; make room there" in ended.stderr
    assert "Traceback" not in ended.stderr


SMALL_DISK = (
    'mount -t tmpfs -o size=48k tmpfs "$1" || exit 99; '
    'head -c 60000 /dev/zero >"$1/fill" 2>/dev/null; shift; exec "$@"'
)


def test_a_lane_range_that_is_used_up(tmp_path):
    """The worker for which no port is left ends with 76, and is told which setting to raise."""
    port = _free_ports(4)
    flags = ("--broker-port", str(port), "--last-lane-port", str(port + 3))
    with local_broker(tmp_path, *flags) as broker:
        words = imgserve("worker", "--connection", str(broker.connection), "--processes", "1")
        first = subprocess.Popen(words, stderr=subprocess.DEVNULL, cwd=ROOT)
        try:
            broker.wait_for_workers(1)
            code, log = end_of_worker(tmp_path, "--connection", str(broker.connection))
        finally:
            first.terminate()
            first.wait(30)
    assert code == ExitCode.TURNED_AWAY
    assert f"every lane port from {port + 3} to {port + 3} is in use" in log
    assert "--last-lane-port" in log


def test_a_clock_an_hour_off(tmp_path):
    """The worker joins and works all the same; `status` says whose clock it is and what to do."""
    with local_broker(tmp_path) as broker:
        words = imgserve("worker", "--connection", str(broker.connection), "--processes", "1")
        shifted = "import time, runpy, sys; real = time.time; time.time = lambda: real() + 3600; "
        shifted += "sys.argv = sys.argv[1:]; runpy.run_module('imgserve', run_name='__main__')"
        ahead = subprocess.Popen(
            [words[0], "-c", shifted, "imgserve", *words[3:]], stderr=subprocess.DEVNULL, cwd=ROOT
        )
        try:
            broker.wait_for_workers(1)
            eventually(lambda: broker.workers()[0]["clock_off_s"] > 3000, "the clock is seen")
            shown = subprocess.run(
                imgserve(
                    "status", "--state", str(tmp_path), "--connection", str(broker.connection)
                ),
                capture_output=True,
                text=True,
                check=True,
                cwd=ROOT,
            ).stdout
        finally:
            ahead.terminate()
            ahead.wait(30)
    assert "3600 s ahead of the broker's" in shown
    assert "set it by NTP" in shown


def _free_ports(count):
    """Return the first of some ports in a row that are free now."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        try:
            for each in range(port, port + count):
                socket.create_server(("127.0.0.1", each)).close()
        except OSError:
            continue
        return port


def test_a_lifetime_ends_a_worker_by_itself(tmp_path):
    """A worker with --lifetime drains by itself: exit 0, in time, and its reason stays behind."""
    with local_broker(tmp_path) as broker:
        began_s = time.monotonic()
        flags = ("--lifetime", "3s", "--stagger", "0", "--connection", str(broker.connection))
        code, _ = end_of_worker(tmp_path, *flags)
        assert (code, time.monotonic() - began_s < 30) == (ExitCode.OK, True)
        assert broker.figures()["departed"][0]["reason"] == "its lifetime of 3 s is over"

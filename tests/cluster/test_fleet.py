"""A thousand workers: joining at once, and coming back at once after the broker was killed."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager

import psutil

from tests.cluster.cluster import ROOT
from tests.cluster.local import local_broker
from tests.support import stub_fleet
from tests.support.service import eventually

WORKERS = 1_000
BACK_S = 15.0
DESCRIPTORS_A_WORKER = 6
"""Lane (listener, its signaller, connection), reports, events; one to spare."""


@contextmanager
def fleet(broker, count):
    """Run stub workers for the length of a block."""
    words = [sys.executable, "-m", "tests.support.stub_fleet", str(broker.connection), str(count)]
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def seconds_until_all(broker, count):
    """Wait until so many workers have credit; return how long it took."""
    began_s = time.monotonic()
    want = count * stub_fleet.SLOTS
    eventually(lambda: broker.figures()["credit"] >= want, f"{count} workers", timeout_s=60)
    return time.monotonic() - began_s


def test_a_thousand_join_and_come_back_after_a_restart(tmp_path, record_property):
    """A thousand workers join at once and rejoin a restarted broker within 15 s, none refused."""
    with local_broker(tmp_path) as broker:
        before = psutil.Process(broker.process.pid).num_fds()
        with fleet(broker, WORKERS) as stubs:
            joined_s = seconds_until_all(broker, WORKERS)
            used = psutil.Process(broker.process.pid).num_fds() - before
            broker.process.kill()
            broker.process.wait()
            with local_broker(tmp_path) as again:
                back_s = seconds_until_all(again, WORKERS)
                assert "gets no lane" not in again.log
                assert again.figures()["descriptors"]["low"] is False
                stubs.kill()
                pid = psutil.Process(again.process.pid)
                eventually(lambda: pid.num_fds() < before + 50, "descriptors given back", 30)
        record_property("joined_s", joined_s)
        record_property("back_s", back_s)
        print(f"joined in {joined_s:.1f} s, back in {back_s:.1f} s, {used} descriptors")  # noqa: T201
        assert joined_s < BACK_S
        assert back_s < BACK_S
        assert used < DESCRIPTORS_A_WORKER * WORKERS

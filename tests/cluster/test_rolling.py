"""A rolling upgrade under load, and several workers from one command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import psutil
import pytest

from tests.cluster.cluster import ROOT, imgserve
from tests.cluster.local import JOIN_S, local_broker, local_store
from tests.support.service import eventually

FEW = ("--processes", "1", "--slots", "4", "--allow-network", "127.0.0.0/8")
AS_VERSION = (
    "import sys, runpy, imgserve; imgserve.__version__ = sys.argv.pop(1); "
    "runpy.run_module('imgserve', run_name='__main__')"
)


@pytest.fixture
def started():
    """Start commands that end with the test, whatever becomes of it."""
    processes = []

    def start(words):
        processes.append(subprocess.Popen(words, stderr=subprocess.DEVNULL, cwd=ROOT))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_rolling_upgrade_loses_nothing(tmp_path, started):
    """Old workers are replaced one by one under load; every job is done, at its first attempt."""
    with local_broker(tmp_path) as broker, local_store(tmp_path) as uploads:

        def worker(version):
            words = ("worker", "--connection", str(broker.connection), *FEW)
            return started([sys.executable, "-c", AS_VERSION, version, *words])

        old = [worker("1.0") for _ in range(2)]
        broker.wait_for_workers(2)
        batch = broker.submit(uploads, "roll", 80, wait_s=0.3)
        batch.begun()
        for each in old:
            worker("1.1")
            broker.wait_for_workers(3)
            each.terminate()
            assert each.wait(JOIN_S) == 0
            eventually(lambda: len(broker.workers()) == 2, "it has left")
        assert {each["version"] for each in broker.workers()} == {"1.1"}
        batch.assert_all_done()
        assert {len(history) for history in uploads.history("roll").values()} == {2}


def test_one_command_keeps_several_workers(tmp_path, started):
    """--count keeps so many alive, starts again what dies or has done its most, and drains all."""
    with local_broker(tmp_path) as broker, local_store(tmp_path) as uploads:
        alive = tmp_path / "alive"
        words = imgserve("worker", "--connection", str(broker.connection), *FEW)
        flags = ("--count", "2", "--max-jobs", "10", "--liveness-file", str(alive))
        command = started([*words, *flags])
        first = {each["incarnation"] for each in broker.wait_for_workers(2)}
        eventually(alive.exists, "both have been heard")
        batch = broker.submit(uploads, "count", 40, wait_s=0.05)
        batch.assert_all_done()
        eventually(
            lambda: any("jobs, its most" in each["reason"] for each in last_words(broker)),
            "one has done its most",
        )
        eventually(lambda: len(fresh(broker, first)) >= 1, "it was started again", JOIN_S)
        children = psutil.Process(command.pid).children(recursive=True)
        command.send_signal(signal.SIGTERM)
        assert command.wait(JOIN_S) == 0
        assert not psutil.wait_procs(children, 10)[1]
        assert not alive.exists()
        assert broker.workers() == []


def last_words(broker):
    """Who left."""
    return broker.figures()["departed"]


def fresh(broker, before):
    """Workers that were not there before."""
    return {each["incarnation"] for each in broker.workers()} - before


def test_top_and_status_show_the_cluster(tmp_path, started):
    """`top --json` has workers with their figures and last words; without a terminal it is text."""
    with local_broker(tmp_path) as broker:
        words = imgserve("worker", "--connection", str(broker.connection), *FEW)
        started([*words, "--tags", "zone-a", "--tags", "b"])
        gone = started(words)
        broker.wait_for_workers(2)
        gone.terminate()
        assert gone.wait(JOIN_S) == 0
        eventually(lambda: len(broker.workers()) == 1, "it has left")
        where = ("--state", str(tmp_path), "--connection", str(broker.connection))
        seen = json.loads(run("top", "--json", *where))
        [worker] = seen["workers"]
        assert worker["tags"] == ["zone-a", "b"]
        assert worker["rss_bytes"] > 1e6
        assert worker["cpu_percent"] is not None
        assert seen["queue"]["credit"] == 4
        assert seen["departed"][0]["reason"] == "asked to end"
        text = run("top", *where)
        assert "zone-a b" in text
        assert f"{gone.pid} left" in text
        assert f"worker {gone.pid} on" in run("status", *where)


def run(*words):
    """Run a command and return what it prints."""
    ended = subprocess.run(
        imgserve(*words), capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout

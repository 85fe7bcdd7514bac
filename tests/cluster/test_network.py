"""A cluster over network namespaces: joining, cut links, bad links, hosts that vanish."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

from tests.cluster.cluster import LEASE_S, Cluster
from tests.support.network import Network, why_not
from tests.support.service import eventually

PARTITIONS = int(os.environ.get("TEST_PARTITIONS", "2"))
"""Cuts longer than the lease, one after the other; a night's run may ask for more."""

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """One cluster for all tests here; each leaves it whole."""
    folder = tmp_path_factory.mktemp("cluster")
    with Network(folder) as network:
        cluster = Cluster(network, folder)
        cluster.start()
        yield cluster


def passing(seconds):
    """Let so much time pass with a link cut: the length of the cut is what is tested."""
    ends_s = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= ends_s, "time passes", timeout_s=seconds + 5)


def test_workers_join_across_hosts(cluster):
    """Workers of three hosts share a batch whose sources and destinations are on a fourth."""
    before = {each["host"]: each["jobs_ended"] for each in cluster.figures()["workers"]}
    assert set(before) == set(cluster.workers)
    batch = cluster.submit(60, wait_s=0.05)
    batch.assert_all_done()
    after = {each["host"]: each["jobs_ended"] for each in cluster.figures()["workers"]}
    assert all(after[host] > before[host] for host in after)


def test_the_gateway_answers_on_its_own_address(cluster):
    """A request posted from another host is accepted, and /queue tells that nothing is left."""
    url = f"http://{cluster.hub.address}:8602"
    request = json.dumps(cluster.uploads.request("http-0"))
    script = (
        "import sys, urllib.request as u; r = u.Request(sys.argv[1], sys.argv[2].encode()); "
        "print(u.urlopen(r, timeout=20).read().decode())"
    )
    answer = json.loads(cluster.client.run(sys.executable, "-c", script, url, request))
    assert answer == {"dstURL": cluster.uploads.request("http-0")["dstURL"]}
    ask = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"

    def idle():
        return json.loads(cluster.client.run(sys.executable, "-c", ask, f"{url}/queue"))

    eventually(lambda: idle() == {"queued": 0, "running": 0, "total": 0}, "an idle queue")


def test_a_short_cut_costs_nothing(cluster):
    """A link cut for less than the lease and healed: every job is done, and no worker is lost."""
    incarnations = {each["incarnation"] for each in cluster.figures()["workers"]}
    batch = cluster.submit(40, wait_s=0.4)
    batch.begun()
    cluster.workers["w1"].cut()
    passing(LEASE_S * 0.3)
    cluster.workers["w1"].heal()
    batch.assert_all_done()
    assert {each["incarnation"] for each in cluster.figures()["workers"]} == incarnations


def test_a_long_cut_loses_nothing(cluster):
    """After a cut longer than the lease others do the jobs, and what was under way stays away."""
    for each in range(PARTITIONS):
        host = list(cluster.workers.values())[each % len(cluster.workers)]
        batch = cluster.submit(24, wait_s=0.2)
        batch.begun()
        host.cut()
        passing(LEASE_S * 2)
        host.heal()
        batch.assert_all_done()
        cluster.wait_for_workers(len(cluster.workers))
        passing(0.5)  # what the network still held back
        batch.assert_results_stand()


def test_a_slow_link_only_slows(cluster):
    """With 40 ms of delay and jitter on every worker's link all jobs are done."""
    _worsened(cluster, lambda host: host.impair("delay", "40ms", "10ms"))


def test_a_lossy_link_only_slows(cluster):
    """With 3% of every worker's packets lost all jobs are done."""
    _worsened(cluster, lambda host: host.impair("loss", "3%") and host.lose(3))


def _worsened(cluster, worsen):
    hosts = cluster.workers.values()
    try:
        if lacks := [why for host in hosts if (why := worsen(host))]:
            pytest.skip(f"this kernel cannot make a link bad: {lacks[0]}")
        cluster.submit(30).assert_all_done()
    finally:
        for host in hosts:
            host.repair()


def test_a_host_that_vanishes_is_replaced(cluster):
    """The jobs of a host that is gone without a word are done by the others."""
    host = cluster.workers["w3"]
    batch = cluster.submit(30, wait_s=0.3)
    batch.begun()
    host.cut()
    host.kill()
    batch.assert_all_done()
    last = cluster.figures()["departed"][0]
    assert (last["host"], "silent" in last["reason"]) == ("w3", True)
    host.heal()
    cluster.start_worker(host)
    cluster.wait_for_workers(len(cluster.workers))


def test_a_worker_that_drains_says_why(cluster):
    """A worker told to end in the middle of a batch loses nothing and leaves a last word."""
    host = cluster.workers["w2"]
    batch = cluster.submit(30, wait_s=0.2)
    batch.begun()
    began_s = time.monotonic()
    process = host._processes[-1]
    process.terminate()
    assert process.wait(30) == 0
    assert time.monotonic() - began_s < 10
    batch.assert_all_done()
    departed = cluster.figures()["departed"]
    assert (departed[0]["host"], departed[0]["reason"]) == ("w2", "asked to end")
    cluster.start_worker(host)
    cluster.wait_for_workers(len(cluster.workers))


def test_the_brokers_host_may_restart(cluster):
    """A broker killed with its link, and started again, goes on with every job."""
    batch = cluster.submit(40, wait_s=0.3)
    batch.begun()
    cluster.hub.cut()
    cluster.broker.kill()
    cluster.broker.wait(15)
    passing(0.5)
    cluster.hub.heal()
    cluster.start_broker()
    batch.assert_all_done()
    cluster.wait_for_workers(len(cluster.workers))

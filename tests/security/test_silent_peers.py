"""Peers that connect and say nothing: they cost a descriptor for a moment, and no service."""

from __future__ import annotations

import resource
import subprocess
import time
from pathlib import Path

from imgserve.client import Client
from tests.broker.broker_process import DEADLINE_S, BrokerProcess, Peer
from tests.security.keyed import is_hung_up, many
from tests.support.until import until

SILENT = 1000
FEW = 160


class PoorBroker(BrokerProcess):
    """A broker that may have few descriptors."""

    def spawn(self) -> subprocess.Popen[bytes]:
        """Lower the limit of the child alone."""
        process = super().spawn()
        # At once, before it is up: it raises what it may have to the hard limit.
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (FEW, FEW))
        return process


def figures(connection_file: Path) -> dict[str, int]:
    """The broker's descriptors as it counts them."""
    with Client(connection_file, flush_s=0) as client:
        return dict(client.stats(timeout_s=DEADLINE_S)["descriptors"])


def test_a_thousand_silent_connections_stop_nobody(tmp_path):
    """Jobs are taken meanwhile, and the broker hangs up on silence."""
    with BrokerProcess(tmp_path) as broker, many(broker.connection.jobs, SILENT) as silent:
        began_s = time.monotonic()
        with Peer(broker.connection) as peer:
            peer.submit("amid-silence")
            peer.wait_state("amid-silence", "queued")
        assert time.monotonic() - began_s < 5
        assert all(is_hung_up(connection) for connection in silent)
        until(lambda: figures(broker.connection_file)["open"] < 200, DEADLINE_S)


def test_a_broker_without_descriptors_says_so_and_recovers(tmp_path):
    """Who is connected is served, and when the flood ends others get in again."""
    with PoorBroker(tmp_path) as broker, Peer(broker.connection) as peer:
        with many(broker.connection.jobs, FEW):
            until(lambda: "descriptors are in use" in broker.log, DEADLINE_S)
            peer.submit("amid-want")
            peer.wait_state("amid-want", "queued")
        until(lambda: not figures(broker.connection_file)["low"], DEADLINE_S)
        assert broker.process.poll() is None

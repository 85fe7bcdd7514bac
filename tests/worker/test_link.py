"""The lane's endpoint, as a worker on another host must read it."""

from __future__ import annotations

import pytest

from imgserve.worker.link import lane_endpoint


@pytest.mark.parametrize(
    ("endpoint", "events", "lane"),
    [
        ("tcp://*:8606", "tcp://broker:8605", "tcp://broker:8606"),
        ("tcp://0.0.0.0:8606", "tcp://10.0.0.1:8605", "tcp://10.0.0.1:8606"),
        ("tcp://[::]:8606", "tcp://[fd00::1]:8605", "tcp://[fd00::1]:8606"),
        ("tcp://other:8606", "tcp://broker:8605", "tcp://other:8606"),
        ("ipc:///run/lane", "tcp://broker:8605", "ipc:///run/lane"),
    ],
)
def test_a_wildcard_means_the_host_of_the_events(endpoint, events, lane):
    """A broker that binds every address is reached where its events are."""
    assert lane_endpoint(endpoint, events) == lane

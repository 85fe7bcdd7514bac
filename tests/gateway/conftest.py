"""A gateway over real HTTP, before a scripted broker."""

from __future__ import annotations

import pytest

from tests.support.broker_double import BrokerDouble
from tests.support.gateway_run import GatewayRun


@pytest.fixture
def broker(tmp_path):
    """A scripted broker."""
    with BrokerDouble(tmp_path) as double:
        yield double


@pytest.fixture
def gateway(broker):
    """A gateway before it."""
    with GatewayRun(broker.path) as run:
        yield run

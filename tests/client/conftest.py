"""A client before a scripted broker, with short timings."""

from __future__ import annotations

import pytest

from imgserve.client import Client, Timing
from tests.support.broker_double import BrokerDouble

QUICK = Timing(resend_s=0.3, resend_max_s=1.0, quiet_s=1.5, beat_s=0.1)


@pytest.fixture
def broker(tmp_path):
    """A scripted broker."""
    with BrokerDouble(tmp_path) as double:
        yield double


@pytest.fixture
def client(broker):
    """A blocking client of it."""
    with Client(broker.path, timing=QUICK, flush_s=1) as client:
        yield client

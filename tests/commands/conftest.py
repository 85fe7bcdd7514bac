"""A running service that tests only look at, and one that a test may do anything to."""

from __future__ import annotations

import pytest

from tests.support.command_line import Daemon
from tests.support.http_server import HttpServer


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service that tests only look at or submit to."""
    folder = tmp_path_factory.mktemp("service")
    with Daemon(folder / "state") as service:
        service.start(f"--file-root={folder}")
        yield service


@pytest.fixture
def service(tmp_path):
    """A service that is not started yet, to do anything to."""
    with Daemon(tmp_path / "state") as service:
        yield service


@pytest.fixture
def http():
    """Where sources are and results go."""
    with HttpServer() as server:
        yield server

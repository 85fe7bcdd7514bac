"""Fixtures: a certificate for the session, servers for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http_server import HttpServer
from tests.support.tls import Certificate, make_certificate
from tests.worker.transfers.peers import Peer, file_peer, ftp_peer, http_peer

SCHEMES = ("http", "https", "ftp", "ftp with TLS", "ftps", "file")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=SCHEMES)
def peer(
    request: pytest.FixtureRequest, tmp_path: Path, certificate: Certificate
) -> Iterator[Peer]:
    root = tmp_path / "root"
    root.mkdir()
    opened = {
        "http": lambda: http_peer(root, None),
        "https": lambda: http_peer(root, certificate),
        "ftp": lambda: ftp_peer(root, None),
        "ftp with TLS": lambda: ftp_peer(root, certificate),
        "ftps": lambda: ftp_peer(root, certificate, implicit=True),
        "file": lambda: file_peer(root),
    }[request.param]()
    with opened as peer:
        yield peer


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server

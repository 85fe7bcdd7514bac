"""One service for most tests, and the real servers that it fetches from and uploads to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.ends import Ends
from tests.support.ftp_server import FtpServer
from tests.support.http_server import HttpServer
from tests.support.service import Service, temporary_files


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service as it is by default, but for one retry in place of four."""
    folder = tmp_path_factory.mktemp("service")
    with Service(folder, "--processes", "2", "--retry-limit", "1") as service:
        yield service


@pytest.fixture(scope="session")
def web() -> Iterator[HttpServer]:
    """A web server for sources and destinations."""
    with HttpServer() as server:
        yield server


@pytest.fixture(scope="session")
def ftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpServer]:
    """An FTP server, on which no upload leaves a temporary file."""
    root = tmp_path_factory.mktemp("ftp")
    with FtpServer(root) as server:
        yield server
    assert not temporary_files(root)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of this test's own: servers and folders are shared."""
    kept = (letter if letter.isalnum() else "-" for letter in request.node.name)
    return "".join(kept).strip("-").lower()


@pytest.fixture
def folder(service: Service, name: str) -> Path:
    """A folder of this test's own beneath the service's file root."""
    folder = service.files / name
    folder.mkdir()
    return folder


@pytest.fixture
def ends(service: Service, web: HttpServer, ftp: FtpServer) -> Ends:
    """Every kind of source and destination."""
    return Ends(service, web, ftp)

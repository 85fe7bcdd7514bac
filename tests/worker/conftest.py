"""What the tests of a whole worker share."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.http_server import HttpServer
from tests.support.lane_double import LaneDouble
from tests.support.worker_process import WorkerProcess


def picture(width_px: int = 400, height_px: int = 300, kind: str = "png") -> bytes:
    """A plain picture, encoded."""
    out = io.BytesIO()
    Image.new("RGB", (width_px, height_px), "teal").save(out, kind)
    return out.getvalue()


@pytest.fixture
def http() -> Iterator[HttpServer]:
    """An HTTP server with a picture of 400x300."""
    with HttpServer() as server:
        server.files["/a.png"] = picture()
        yield server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LaneDouble]:
    """A scripted broker."""
    with LaneDouble(tmp_path) as double:
        yield double


@pytest.fixture
def worker(broker: LaneDouble, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A real worker of that broker."""
    with WorkerProcess(broker.connection_file, tmp_path / "worker.log") as process:
        yield process

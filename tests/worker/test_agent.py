"""A real worker process against a scripted broker."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgserve.protocol.reports import Accepted, Beat, Bye, Done, Hello
from tests.support.http_server import HttpServer
from tests.support.lane_double import LaneDouble
from tests.support.worker_process import WorkerProcess


def picture(width_px: int = 400, height_px: int = 300, kind: str = "png") -> bytes:
    """A plain picture, encoded."""
    out = io.BytesIO()
    Image.new("RGB", (width_px, height_px), "teal").save(out, kind)
    return out.getvalue()


def resize(src_url: str, dst_url: str, **args: Any) -> bytes:
    """A request to resize to 40x30 and PUT the result."""
    arguments = {"width": 40, "height": 30, "method": "PUT"} | args
    document = {
        "operationType": "resize", "srcURL": src_url, "dstURL": dst_url, "args": arguments
    }
    return json.dumps(document).encode()


@pytest.fixture
def http() -> Iterator[HttpServer]:
    with HttpServer() as server:
        server.files["/a.png"] = picture()
        yield server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LaneDouble]:
    with LaneDouble(tmp_path) as double:
        yield double


@pytest.fixture
def worker(broker: LaneDouble, tmp_path: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(broker.connection_file, tmp_path / "worker.log") as process:
        yield process


def test_a_job_is_accepted_and_done(broker, worker, http):
    """A worker says hello, takes its job, reports acceptance and the result's size."""
    broker.expect(Hello, lambda hello: hello.slots == 8 and hello.pid == worker.pid)
    broker.expect(Beat)
    broker.give("j1", resize(http.url("/a.png"), http.url("/out/{$width}-{$basename}.{$ext}")))
    done = broker.expect(Done)
    assert broker.said(Accepted)[0].dst_url == http.url("/out/40-a.png")
    assert (done.width_px, done.height_px) == (40, 30)
    assert {"fetch", "placeholder", "pixels", "upload", "total"} <= done.seconds.keys()
    stored = http.stored["/out/40-a.png"]
    assert len(stored) == done.size_bytes
    assert Image.open(io.BytesIO(stored)).size == (40, 30)


def test_sigterm_ends_an_idle_worker(broker, worker):
    """An idle worker that is asked to end says bye and exits 0."""
    broker.expect(Beat)
    worker.terminate()
    assert worker.wait() == 0
    broker.expect(Bye)

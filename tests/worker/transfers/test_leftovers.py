"""Temporary files of attempts whose workers were killed: the next attempt takes them away."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from imgserve.request import Destination
from imgserve.worker.transfers import Transfers, UploadedBy
from imgserve.worker.transfers import beneath as module
from tests.support.ftp_server import FtpServer
from tests.worker.transfers.running import OPEN

BODY = bytes(range(256)) * 99


def upload(url: str, by: UploadedBy, root: Path) -> None:
    """Upload as an attempt of a job."""

    async def run() -> None:
        settings = replace(OPEN, file_roots=(root,))
        async with Transfers(settings) as transfers:
            await transfers.upload(Destination(url), BODY, content_type="image/png", by=by)

    asyncio.run(run())


@pytest.fixture(params=["file", "ftp"])
def place(request, tmp_path: Path):
    """A folder, and the URL that leads there."""
    folder = tmp_path / "out"
    folder.mkdir()
    if request.param == "file":
        yield folder, f"file://{folder}/a.png"
        return
    with FtpServer(tmp_path) as server:
        yield folder, server.url("/out/a.png")


def test_later_attempt_deletes_what_earlier_ones_left(place, tmp_path: Path):
    """Of its own job alone."""
    folder, url = place
    others = UploadedBy("other", 1).temporary
    for left in (UploadedBy("job", 1).temporary, UploadedBy("job", 2).temporary, others):
        (folder / left).write_bytes(b"half")
    upload(url, UploadedBy("job", 3), tmp_path)
    assert {path.name for path in folder.iterdir()} == {"a.png", others}
    assert (folder / "a.png").read_bytes() == BODY


def test_names_of_attempts_are_their_own():
    """Two attempts at once never write into one file; the id, a client's, is not shown."""
    names = {UploadedBy(job, attempt).temporary for job in ("a", "b") for attempt in (1, 2)}
    assert len(names) == 4
    assert not any("secret" in UploadedBy("secret", 1).temporary for _ in names)
    assert UploadedBy("a", 300).former == [
        UploadedBy("a", attempt).temporary for attempt in range(292, 300)
    ]


@pytest.mark.parametrize("is_result", [False, True])
def test_result_is_on_disk_before_its_name(tmp_path: Path, monkeypatch, is_result: bool):
    """A placeholder need not be: it is drawn again."""
    events = []
    for name in ("fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(
            module.os, name,
            lambda *args, name=name, real=real, **more: (events.append(name), real(*args, **more)),
        )  # fmt: skip
    upload(f"file://{tmp_path}/a.png", UploadedBy("job", 1, is_result), tmp_path)
    assert events == (["fsync", "rename", "fsync"] if is_result else ["rename"])

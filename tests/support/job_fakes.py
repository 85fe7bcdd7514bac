"""Scripted transfers and pixels, for the paths of a job that reality cannot be made to take."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from imgserve.protocol.lane import Job
from imgserve.protocol.reports import JobReports
from imgserve.request import Destination, ImageKind, ResultLimits
from imgserve.worker.budget import MemoryBudget
from imgserve.worker.inspection import SourceLimits
from imgserve.worker.job import Attempt
from imgserve.worker.pixels import PixelPool, Rendered, Text
from imgserve.worker.tools import Line, Tools
from imgserve.worker.transfers import Transfers, UploadedBy

SIZE = (400, 300)


def png_head(width_px: int, height_px: int) -> bytes:
    """The first bytes of a PNG of that size, and some more."""
    size = width_px.to_bytes(4, "big") + height_px.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size + b"\x08\x02\0\0\0crc!\0\0\0\x20IDAT" + bytes(32)


@dataclass
class Script:
    """What happens at each step of a job; an exception is raised there.

    A gate is an event that the step waits for, having said by `reached` that it is there.
    """

    source: bytes = field(default_factory=lambda: png_head(*SIZE))
    head_error: Exception | None = None
    body_error: Exception | None = None
    svg_error: Exception | None = None
    pixels_error: Exception | None = None
    placeholder_error: Exception | None = None
    failed_error: Exception | None = None
    result_error: Exception | None = None
    render_text_error: Exception | None = None
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    reached: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    fetched: list[int] = field(default_factory=list)
    rendered: list[dict[str, Any]] = field(default_factory=list)

    async def step(self, name: str, error: Exception | None = None) -> None:
        """Come to a step: wait for its gate, then fail if it is scripted to."""
        self.reached.append(name)
        gate = self.gates.get(name)
        try:
            if gate is not None:
                await gate.wait()
        except asyncio.CancelledError:
            self.aborted.append(name)
            raise
        if error is not None:
            raise error


class FakeDownload:
    """A source that has arrived, or fails, as scripted."""

    complete = True

    def __init__(self, script: Script) -> None:
        self._script = script

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to end."""

    async def head(self, _size_bytes: int) -> bytes:
        """The head's step."""
        await self._script.step("head", self._script.head_error)
        return self._script.source

    async def body(self) -> bytes:
        """The body's step."""
        await self._script.step("body", self._script.body_error)
        return self._script.source


class FakeTransfers:
    """Downloads and uploads as scripted; an upload's name is its bytes."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def fetch(self, _url: str, *, limit_bytes: int) -> FakeDownload:
        """Start a download."""
        self._script.fetched.append(limit_bytes)
        return FakeDownload(self._script)

    async def upload(
        self, _to: Destination, body: bytes, *, content_type: str, by: UploadedBy
    ) -> None:
        """The step `upload <what>`."""
        assert content_type == "image/png"
        assert by.job_id
        task = asyncio.current_task()
        # A cancellation that was not taken back would break every timeout of the real upload.
        assert task is not None
        assert task.cancelling() == 0
        what = body.decode()
        errors = {
            Text.PROCESSING.value: self._script.placeholder_error,
            Text.FAILED.value: self._script.failed_error,
            "result": self._script.result_error,
        }
        await self._script.step(f"upload {what}", errors[what])
        self._script.uploads.append(what)


class FakePixels:
    """Results and placeholders as scripted."""

    pids = (7,)
    all_pids = (6, 7)

    def __init__(self, script: Script) -> None:
        self._script = script

    async def placeholder(
        self, *, kind: ImageKind, width_px: int, height_px: int, text: Text
    ) -> Rendered:
        """A placeholder whose bytes are its text."""
        assert kind is ImageKind.PNG
        if self._script.render_text_error is not None:
            raise self._script.render_text_error
        return Rendered(text.value.encode(), width_px, height_px, "image/png")

    async def resize(self, _data: bytes, **asked: Any) -> Rendered:
        """The step `pixels`."""
        return await self._render(asked)

    async def rasterize(self, _data: bytes, **asked: Any) -> Rendered:
        """The step `pixels`."""
        return await self._render(asked)

    async def check_svg(self, _data: bytes) -> None:
        """The step `svg`."""
        await self._script.step("svg", self._script.svg_error)

    async def _render(self, asked: dict[str, Any]) -> Rendered:
        await self._script.step("pixels", self._script.pixels_error)
        self._script.rendered.append(asked)
        return Rendered(b"result", asked["width_px"], asked["height_px"], "image/png")


def payload(**changes: Any) -> bytes:
    """A request to resize a PNG to 40x30."""
    document: dict[str, Any] = {
        "operationType": "resize",
        "srcURL": "http://127.0.0.1/a.png",
        "dstURL": "http://127.0.0.1/out/a.png",
        "args": {"width": 40, "height": 30, "method": "PUT"},
    }
    return json.dumps(document | changes).encode()


SVG = payload(operationType="rasterize", srcURL="http://127.0.0.1/a.svg")


def a_job(**changes: Any) -> Job:
    """A first attempt at `payload()`."""
    fields: dict[str, Any] = {
        "epoch": "e",
        "job_id": "j",
        "attempt": 1,
        "payload": payload(),
        "accepted": False,
        "touched": False,
        "verdict": 0,
        "detail": "",
    }
    return Job(**(fields | changes))


def tools_of(script: Script, clock: Callable[[], float] = time.monotonic) -> Tools:
    """Scripted tools, limits of 1 MB, 1 kB for an SVG, 1 MP, and a result of 2,000 pixels."""
    return Tools(
        transfers=cast("Transfers", FakeTransfers(script)),
        pixels=cast("PixelPool", FakePixels(script)),
        limits=SourceLimits(size_bytes=1_000_000, svg_bytes=1_000, pixels=1_000_000),
        results=ResultLimits(pixels=2_000, side_px=100),
        memory=MemoryBudget(16_000_000, 2),
        upload_memory=MemoryBudget(16_000_000, 2),
        clock=clock,
    )


class Bench:
    """One attempt with scripted transfers and pixels, and what it reported."""

    def __init__(
        self, job: Job, script: Script, *, may_upload: Callable[[], bool] = lambda: True
    ) -> None:
        self.script = script
        self.reports: list[JobReports] = []
        self._seq = 0
        line = Line(
            incarnation="i",
            next_seq=self._next_seq,
            report=self.reports.append,
            may_upload=may_upload,
        )
        self.attempt = Attempt(job, tools_of(script), line)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the reports, in order."""
        return [report.KIND for report in self.reports]

    @property
    def final(self) -> Any:
        """The last report."""
        return self.reports[-1]

    def start(self) -> asyncio.Task[None]:
        """Start the attempt's life."""
        return asyncio.get_running_loop().create_task(self.attempt.run())

    async def until(self, step: str) -> None:
        """Wait until the attempt has come to a step."""
        async with asyncio.timeout(5):
            while step not in self.script.reached:  # noqa: ASYNC110 - turns, not time
                await asyncio.sleep(0)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq


def live(job: Job, script: Script, **options: Any) -> Bench:
    """Live an attempt to its end."""

    async def life() -> Bench:
        bench = Bench(job, script, **options)
        await asyncio.wait_for(bench.start(), 5)
        return bench

    return asyncio.run(life())

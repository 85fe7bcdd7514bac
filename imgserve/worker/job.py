"""One job's life in a worker: one attempt, from its payload to its final report."""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import Final

from imgserve.errors import CODES, CodedError, RequestInvalid, RequestUnparsable
from imgserve.protocol.checks import TEXT_LIMIT_CHARS
from imgserve.protocol.lane import Job
from imgserve.protocol.reports import (
    Accepted,
    Done,
    Failed,
    Rejected,
    Returned,
    ReturnReason,
)
from imgserve.request import Method, Operation, Request, parse
from imgserve.urls import without_user_info
from imgserve.worker.budget import Room
from imgserve.worker.inspection import inspect
from imgserve.worker.pixels import Rendered, Text
from imgserve.worker.source import Source
from imgserve.worker.stopwatch import Stopwatch
from imgserve.worker.tools import Line, Tools
from imgserve.worker.transfers import UploadedBy, redact
from imgserve.worker.verdict import judge

log = logging.getLogger(__name__)

_UNEXPECTED: Final = "the worker met an unexpected error; its log says more"
# Of an encoded result: noise, with an alpha channel.
_MOST_BYTES_A_PIXEL: Final = 4

_DRAINED: Final = "the worker is shutting down"

FinalReport = Done | Failed | Rejected | Returned


class Stop(Enum):
    """Why an attempt is stopped before its end."""

    CANCELLED = "cancelled"
    DRAINED = "drained"


class _Stopped(Exception):
    """Raised inside an attempt at its next step after it was stopped."""


class Attempt:
    """One attempt at one job; `run` is its life, the other methods end it early."""

    def __init__(self, job: Job, tools: Tools, line: Line) -> None:
        self.job = job
        self._tools = tools
        self._line = line
        self._watch = Stopwatch(tools.clock)
        self._task: asyncio.Task[None] | None = None
        self._request: Request | None = None
        self._accepted = job.accepted
        # A placeholder stands at the destination, from this attempt or an earlier one.
        self._placed = job.accepted or job.touched or job.verdict != 0
        self._stop: Stop | None = None
        self._abandoned = False
        self._hurried = False
        self._started_upload = False
        self._uploading = False
        self._failing = False

    def __repr__(self) -> str:
        return f"<Attempt {self.job.attempt} at {self.job.job_id}>"

    def cancel(self) -> None:
        """Stop before the next upload, for the submitter; an upload in flight is finished."""
        self._interrupt(Stop.CANCELLED)

    def drain(self, *, at_once: bool) -> None:
        """Give the job back, if it has uploaded nothing yet or has to end at once."""
        if at_once or not (self._started_upload or self._failing):
            self._hurried = at_once
            self._interrupt(Stop.DRAINED)

    def abandon(self) -> None:
        """End at once and report nothing: the job belongs to somebody else now."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Live the attempt to its final report; abandoned, it ends without one."""
        if self._abandoned:
            return
        self._task = asyncio.current_task()
        try:
            ending = await self._life()
        except Exception:
            # Without a final report the slot would stay taken for ever.
            log.exception("job %s: unexpected error at its end", self.job.job_id)
            ending = Failed(*self._named(), self.job.verdict or 401, _UNEXPECTED)
        self._line.report(ending)
        self._log_end(ending)

    async def _life(self) -> FinalReport:  # noqa: PLR0911 - one line for each way to end
        try:
            self._go_on()
            if self.job.verdict:
                return await self._fail(self.job.verdict, self.job.detail)
            return await self._work()
        except _Stopped:
            return await self._end_stopped()
        except asyncio.CancelledError:
            if self._forget_interruption():
                return await self._end_stopped()
            log.error("job %s: its pixels or transfers were cancelled", self.job.job_id)  # noqa: TRY400 - a trace of a cancellation says nothing
            return await self._fail(401, _UNEXPECTED)
        except CodedError as exc:
            return await self._end_troubled(exc)
        except RequestUnparsable as exc:
            return await self._end_troubled(RequestInvalid(str(exc), code=101))
        except Exception:
            log.exception("job %s: unexpected error", self.job.job_id)
            return await self._fail(401, _UNEXPECTED)

    async def _work(self) -> Done:
        """The whole of a job that goes well (docs/architecture.md, "The life of a job")."""
        request = self._request = parse(self.job.payload, self._tools.results)
        with Room(self._tools.upload_memory) as room:
            result = await self._make(request, room)
            with self._watch.stage("upload"):
                await self._upload(request, result, is_result=True)
        return Done(
            *self._named(),
            without_user_info(request.dst_url),
            result.width_px,
            result.height_px,
            len(result.data),
            self._watch.seconds(),
            result.warnings,
        )

    async def _make(self, request: Request, room: Room) -> Rendered:
        """Fetch the source, accept the job, and render; the source is let go before the upload."""
        async with self._open_source(request) as source:
            with self._watch.stage("fetch"):
                await inspect(source, request, self._tools.limits, pixels=self._tools.pixels)
            if not self._accepted:
                with self._watch.stage("placeholder"):
                    await self._place(request)
                self._accept(request)
                self._go_on()
            with self._watch.stage("fetch"):
                body = await source.body()
            # A form's body is a copy with its fields around.
            copies = 2 if request.destination.method is Method.POST else 1
            with self._watch.stage("pixels"):
                await room.take(copies * request.width_px * request.height_px * _MOST_BYTES_A_PIXEL)
                result = await self._render(request, body)
            room.keep(copies * len(result.data))
            return result

    def _open_source(self, request: Request) -> Source:
        tools = self._tools
        return Source(
            lambda limit_bytes: tools.transfers.fetch(request.src_url, limit_bytes=limit_bytes),
            budget=tools.memory,
            limit_bytes=tools.limits.of(request),
        )

    async def _place(self, request: Request) -> None:
        placeholder = await self._placeholder(request, Text.PROCESSING)
        await self._upload(request, placeholder)
        self._placed = True
        if self._stop is not Stop.DRAINED:  # who gives it back says first that it is accepted
            self._go_on()

    def _accept(self, request: Request) -> None:
        self._accepted = True
        self._watch.mark("accepted")
        self._line.report(Accepted(*self._named(), without_user_info(request.dst_url)))
        log.debug("job %s accepted", self.job.job_id)

    async def _render(self, request: Request, body: bytes) -> Rendered:
        pixels, width_px, height_px = self._tools.pixels, request.width_px, request.height_px
        if request.operation is Operation.RASTERIZE:
            return await pixels.rasterize(
                body, width_px=width_px, height_px=height_px, renderer=request.renderer
            )
        return await pixels.resize(
            body, kind=request.source_kind, width_px=width_px, height_px=height_px
        )

    async def _placeholder(self, request: Request, text: Text) -> Rendered:
        return await self._tools.pixels.placeholder(
            kind=request.result_kind,
            width_px=request.width_px,
            height_px=request.height_px,
            text=text,
        )

    async def _upload(self, request: Request, image: Rendered, *, is_result: bool = False) -> None:
        if not self._failing:
            self._go_on()
        if not self._line.may_upload():
            # The lease ended and the loop has not come round to abandoning this attempt.
            self._abandoned = True
            raise asyncio.CancelledError
        self._started_upload = self._uploading = True
        try:
            await self._tools.transfers.upload(
                request.destination,
                image.data,
                content_type=image.content_type,
                by=UploadedBy(self.job.job_id, self.job.attempt, is_result),
            )
        finally:
            self._uploading = False

    def _go_on(self) -> None:
        if self._stop is not None:
            raise _Stopped

    def _interrupt(self, stop: Stop) -> None:
        if self._stop is None and not self._failing:
            self._stop = stop
        elif not self._hurried:
            return
        if self._task is not None and (self._hurried or not self._uploading):
            self._task.cancel()

    def _forget_interruption(self) -> bool:
        """Tell whether a cancellation was `_interrupt`'s, and take it back if so.

        Raises: asyncio.CancelledError again when the whole attempt has to end.
        """
        task = self._task
        if self._abandoned or task is None:
            raise asyncio.CancelledError
        if self._stop is not None or self._hurried:
            task.uncancel()
            return True
        if task.cancelling():
            raise asyncio.CancelledError
        return False

    async def _end_stopped(self) -> FinalReport:
        if self._stop is Stop.DRAINED:
            named = self._named()
            return Returned(*named, 503, _DRAINED, ReturnReason.DRAINED, 0.0)
        return await self._fail(406, CODES[406].meaning)

    async def _end_troubled(self, error: CodedError) -> FinalReport:
        verdict = judge(error, accepted=self._accepted)
        code, detail = verdict.code, verdict.detail
        if verdict.back is not None:
            return Returned(*self._named(), code, detail, verdict.back, verdict.delay_s)
        if verdict.rejects:
            detail = await self._without_placeholder(detail)
            return Rejected(*self._named(), code, detail)
        return await self._fail(code, detail)

    async def _fail(self, code: int, detail: str) -> Failed:
        detail = await self._without_placeholder(detail)
        return Failed(*self._named(), code, detail)

    async def _without_placeholder(self, detail: str) -> str:
        """Replace the placeholder, if one may stand there, so that nobody waits for a result.

        Returns: the detail, and what went wrong with that.
        """
        self._failing = True
        if self._placed and self._request is None:
            # Not worked on: there is a verdict, or the worker before allowed larger results.
            try:
                self._request = parse(self.job.payload)
            except (RequestUnparsable, RequestInvalid):
                log.warning("job %s: its payload says no destination", self.job.job_id)
        if self._placed and self._request is not None:
            detail += await self._place_failure(self._request)
        return detail[:TEXT_LIMIT_CHARS]

    async def _place_failure(self, request: Request) -> str:
        """Upload the failure placeholder; return what to add to the detail where that failed."""
        trouble = _DRAINED
        if not self._hurried:
            try:
                await self._upload(request, await self._placeholder(request, Text.FAILED))
            except asyncio.CancelledError:
                self._forget_interruption()
            except CodedError as exc:
                trouble = exc.detail
            else:
                return ""
        log.warning("job %s: the placeholder was not replaced: %s", self.job.job_id, trouble)
        return f" (the placeholder could not be replaced: {trouble})"

    def _named(self) -> tuple[str, str, int, str, int]:
        job, line = self.job, self._line
        return line.incarnation, job.epoch, line.next_seq(), job.job_id, job.attempt

    def _log_end(self, ending: FinalReport) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        if isinstance(ending, Done):
            what = f"{ending.width_px}x{ending.height_px}, {ending.size_bytes} bytes"
            what += "".join(f"; {name}: {detail}" for name, detail in ending.warnings)
        else:
            what = f"{ending.code} {ending.detail}"
        asked = self._request
        urls = f"{redact(asked.src_url)} -> {redact(asked.dst_url)}" if asked else "no request"
        log.info("job %s %s in %s: %s; %s", self.job.job_id, ending.KIND, self._watch, what, urls)

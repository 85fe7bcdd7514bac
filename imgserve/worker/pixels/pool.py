"""The pool of pixel processes of one worker."""

from __future__ import annotations

import asyncio
import logging
import random
from types import TracebackType
from typing import Self

from imgserve.errors import PixelProcessDied, PixelsTimedOut, ProtocolError, SourceTooLarge
from imgserve.picture_warnings import PictureWarning
from imgserve.request import ImageKind, Renderer
from imgserve.worker.budget import MemoryBudget
from imgserve.worker.pixels import memory
from imgserve.worker.pixels.cache import PlaceholderCache, PlaceholderKey
from imgserve.worker.pixels.child import ChildProcess
from imgserve.worker.pixels.frames import (
    ERRORS,
    OK,
    Fate,
    PixelOperation,
    Reply,
    Request,
    require_picture,
)
from imgserve.worker.pixels.jobs import JobQueue, PixelJob
from imgserve.worker.pixels.sandbox import missing_parts
from imgserve.worker.pixels.settings import CONTENT_TYPES, PixelSettings, Rendered, Role, Text
from imgserve.worker.pixels.spawner import Spawner

log = logging.getLogger(__name__)

# A process that dies while it starts will most likely do so again.
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 10.0
# Most jobs need little and never wait for memory: an eighth is theirs, the rest is for large ones.
SMALL_JOBS_PART = 8
# How often it is seen whether the template lives and the fonts are the same.
LOOK_S = 2.0


class PixelPool:
    """Keeps `settings.processes` pixel processes and gives each job to a free one.

    One process more draws the placeholders, which are kept for all: it never gets a stranger's
    bytes. All of them are forked from a template, so that replacing one takes milliseconds.

    Use it as an async context manager, in one event loop. Entering waits for all processes;
    leaving kills them, whatever they do.
    """

    def __init__(self, settings: PixelSettings) -> None:
        self._settings = settings
        self._queues = {role: JobQueue() for role in Role}
        self._queue = self._queues[Role.WORK]
        self._spawner = Spawner(settings, self._outdate_children)
        self._cache = PlaceholderCache(settings.placeholder_cache_bytes, self._render_placeholder)
        self._memory = MemoryBudget(
            settings.pixel_memory_bytes, settings.processes, own_part=SMALL_JOBS_PART
        )
        self._children: dict[ChildProcess, Role] = {}
        # Those that wait for a job, by what wakes them up.
        self._idle: dict[ChildProcess, asyncio.Future[PixelJob | None]] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._busy = 0
        self.sandbox: dict[str, bool | str] = {}

    def __repr__(self) -> str:
        return f"<PixelPool {len(self.pids)} processes, {self._busy} busy, {len(self._queue)} wait>"

    async def __aenter__(self) -> Self:
        """Start the processes.

        Raises:
            ConnectionError: when one dies while it starts, with the last it said.
            TimeoutError: when one takes longer than `start_timeout_s`.
        """
        roles = [Role.DRAW, *[Role.WORK] * self._settings.processes]
        starts = [asyncio.ensure_future(self._start(role)) for role in roles]
        try:
            children = await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self._end_all()
            raise
        self.sandbox = children[0].sandbox
        log.info("pixel processes ready: %s; sandbox: %s", self.pids, self.sandbox)
        if missing := missing_parts(self.sandbox):
            log.warning(
                "pixel processes are less confined than they could be; this kernel lacks %s",
                "; ".join(missing),
            )
        self._keepers = [asyncio.create_task(self._keep(child)) for child in children]
        self._keepers.append(asyncio.create_task(self._look()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Waiting jobs first, or the keepers would start them on their way out.
        for queue in self._queues.values():
            queue.clear()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        # A keeper that was cancelled before its first turn has ended nothing.
        await self._end_all()
        await self._cache.close()

    @property
    def pids(self) -> list[int]:
        """The ids of the live processes that get pictures."""
        return sorted(self._pids(Role.WORK))

    @property
    def all_pids(self) -> list[int]:
        """The ids of all live processes: the template and the one that draws, too."""
        return sorted([*self._spawner.pids, *self._pids(Role.DRAW), *self._pids(Role.WORK)])

    @property
    def busy(self) -> int:
        """How many processes have a job now."""
        return self._busy

    async def resize(
        self, data: bytes, *, kind: ImageKind, width_px: int, height_px: int
    ) -> Rendered:
        """Scale and crop a picture to exactly width x height, in its own format.

        Args:
            data: a whole PNG, GIF or JPEG.
            kind: which of them it is.
            width_px: of the result.
            height_px: of the result.

        Raises:
            SourceTooSmall: when the source is smaller in either direction.
            SourceTooManyPixels: when it has more pixels or scans than the limit.
            PixelsFailed: when it cannot be decoded.
            PixelsTimedOut: when it took too long; its process was killed.
            PixelProcessDied: when its process died.
        """
        self._require_size(data, self._settings.source_limit_bytes)
        asked = Request(
            operation=PixelOperation.RESIZE,
            kind=kind,
            width_px=width_px,
            height_px=height_px,
            quality=self._settings.jpeg_quality,
            size_bytes=len(data),
            memory_bytes=memory.of_resize(data, width_px, height_px),
        )
        return await self._submit(asked, data)

    async def rasterize(
        self, data: bytes, *, width_px: int, height_px: int, renderer: str | None = None
    ) -> Rendered:
        """Render an SVG to exactly width x height as PNG with transparency.

        Args:
            data: a whole SVG.
            width_px: of the result.
            height_px: of the result.
            renderer: `resvg` or `cairosvg`; None for the one in the settings.

        Raises:
            SvgInvalid, SourceTooLarge, SourceTooManyPixels: as `check_svg`.
            PixelsFailed: when it cannot be rendered, or has text and there is no font.
            PixelsTimedOut: when it took too long; its process was killed.
            PixelProcessDied: when its process died.
        """
        self._require_size(data, self._settings.svg_limit_bytes)
        asked = Request(
            operation=PixelOperation.RASTERIZE,
            kind=ImageKind.SVG,
            width_px=width_px,
            height_px=height_px,
            renderer=Renderer(renderer or self._settings.renderer),
            size_bytes=len(data),
            memory_bytes=memory.of_svg(data, width_px, height_px),
        )
        return await self._submit(asked, data)

    async def check_svg(self, data: bytes) -> None:
        """See whether an SVG is well-formed, and within the limits, without rendering it.

        Raises:
            SvgInvalid: when it is not well-formed, or its root is not svg.
            SourceUnreadable: when it is not text at all.
            SourceOfOtherKind: when it is a picture of another kind.
            SourceTooLarge: when it has too many bytes.
            SourceTooManyPixels: when its embedded pictures have too many pixels.
        """
        self._require_size(data, self._settings.svg_limit_bytes)
        asked = Request(
            operation=PixelOperation.CHECK_SVG,
            kind=ImageKind.SVG,
            size_bytes=len(data),
            memory_bytes=memory.of_svg(data, 0, 0),
        )
        await self._submit(asked, data)

    async def placeholder(
        self, *, kind: ImageKind, width_px: int, height_px: int, text: Text
    ) -> Rendered:
        """Give a white picture with a text, from the cache where it is there."""
        return await self._cache.get(PlaceholderKey(kind, width_px, height_px, text))

    async def _render_placeholder(self, key: PlaceholderKey) -> Rendered:
        asked = Request(
            operation=PixelOperation.PLACEHOLDER,
            kind=key.kind,
            width_px=key.width_px,
            height_px=key.height_px,
            quality=self._settings.jpeg_quality,
            text=key.text,
            memory_bytes=memory.of_resize(b"", key.width_px, key.height_px),
        )
        return await self._submit(asked, b"")

    def _require_size(self, data: bytes, limit_bytes: int) -> None:
        if len(data) > limit_bytes:
            raise SourceTooLarge(f"the source has {len(data)} bytes; {limit_bytes} are allowed")

    async def _submit(self, asked: Request, data: bytes) -> Rendered:
        reserved_bytes, given_bytes = 0, self._memory.allowance_bytes
        if asked.memory_bytes > given_bytes:
            given_bytes = reserved_bytes = await self._memory.reserve(asked.memory_bytes)
        asked.memory_bytes = given_bytes
        future: asyncio.Future[Rendered] = asyncio.get_running_loop().create_future()
        job = PixelJob(asked, data, future, reserved_bytes)
        queue = self._queue_of(job)
        queue.put(job)
        try:
            return await job.future
        finally:
            # Cancelled before it began: it leaves. Cancelled later: its result is dropped, for
            # the process cannot be stopped without killing it, and it keeps its memory so long.
            queue.discard(job)
            if not job.running:
                self._give_back_memory(job)

    def _give_back_memory(self, job: PixelJob) -> None:
        job.running = False
        size_bytes, job.reserved_bytes = job.reserved_bytes, 0
        if size_bytes:
            self._memory.release(size_bytes)

    def _queue_of(self, job: PixelJob) -> JobQueue:
        draws = job.asked.operation is PixelOperation.PLACEHOLDER
        return self._queues[Role.DRAW if draws else Role.WORK]

    def _pids(self, role: Role) -> list[int]:
        return [child.pid for child, its in self._children.items() if its is role and child.alive]

    async def _start(self, role: Role) -> ChildProcess:
        child = await self._spawner.spawn(role)
        self._children[child] = role
        try:
            await child.ready()
        except BaseException:
            del self._children[child]
            raise
        return child

    async def _end(self, child: ChildProcess) -> None:
        try:
            await child.close()
        finally:
            self._children.pop(child, None)

    async def _end_all(self) -> None:
        await asyncio.gather(*map(self._end, list(self._children)))
        await self._spawner.close()

    async def _keep(self, child: ChildProcess) -> None:
        """Keep one place of the pool filled for as long as the pool is open.

        Nothing but the pool's end ends it: a place that nobody keeps would stay empty.
        """
        role = self._children[child]
        again: PixelJob | None = None
        try:
            while True:
                try:
                    again = await self._serve(child, self._queues[role], again)
                except Exception:
                    log.exception("pixel process %d is replaced after a fault", child.pid)
                    again = None  # `_serve` has told its caller
                finally:
                    await self._end(child)
                if again is not None:
                    # It may be for the fonts that it failed: the next must know those of now.
                    await self._look_once()
                child = await self._replace(role)
        finally:
            if again is not None:
                again.future.cancel()

    async def _look(self) -> None:
        """Replace a template that died, and all processes when the fonts have changed."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look_once()

    async def _look_once(self) -> None:
        try:
            await self._spawner.look()
        except (OSError, ProtocolError) as exc:
            log.error("the template of the pixel processes could not be seen to: %s", exc)  # noqa: TRY400  # the sentence says it
        except Exception:
            log.exception("the template of the pixel processes could not be looked at")

    def _outdate_children(self) -> None:
        """Have every process replaced: at once those that wait, the others after their job."""
        for child in self._children:
            child.outdated = True
        for taker in self._idle.values():
            if not taker.done():
                taker.set_result(None)

    async def _replace(self, role: Role) -> ChildProcess:
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                return await self._start(role)
            except (OSError, ProtocolError) as exc:  # TimeoutError, ConnectionError among them
                log.error(  # noqa: TRY400  # the process has said why; our own trace says nothing
                    "a pixel process did not start: %s; next in %.1f s", exc, backoff_s
                )
            except Exception:
                log.exception("a pixel process did not start; next in %.1f s", backoff_s)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
            backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)

    async def _serve(
        self, child: ChildProcess, queue: JobQueue, first: PixelJob | None
    ) -> PixelJob | None:
        """Give jobs to one process until it must be replaced.

        Args:
            child: the process.
            queue: where its jobs come from.
            first: what another process failed at, perhaps by its own fault.

        Returns: the same for the next process.
        """
        while first is not None or not child.outdated:
            job, first = first or await self._next_job(child, queue), None
            if job is None:
                if not child.outdated:
                    log.warning("pixel process %d ended while idle", child.pid)
                return None
            if job.future.done():  # cancelled between the queue and here
                self._give_back_memory(job)
                continue
            if not child.alive:  # between two jobs: not this job's doing
                if job.retried:
                    return job
                queue.put(job)
                return None
            fate = await self._do(job, child)
            if fate is Fate.RETIRE_AND_RETRY:
                log.info("pixel process %d is replaced, its job done again", child.pid)
                return job
            if fate is Fate.RETIRE:
                log.info("pixel process %d is replaced: it is worn or lost", child.pid)
                return None
        return None

    async def _do(self, job: PixelJob, child: ChildProcess) -> Fate:
        """Have one job done and tell its caller, unless it is to be done again."""
        fate = Fate.RETIRE
        self._busy += 1
        job.running = True
        try:
            reply, data, warnings = await child.call(job.asked, job.data)
            fate = reply.fate
            if fate is Fate.RETIRE_AND_RETRY and not job.retried:
                job.retried = True
                return fate
            _settle(job, _outcome(job.asked, reply, data, warnings))
        except (TimeoutError, ConnectionError, ProtocolError) as exc:
            _settle(job, self._death(exc, child))
        except asyncio.CancelledError:
            job.future.cancel()
            raise
        except Exception as exc:
            _settle(job, self._death(exc, child))
            raise
        finally:
            self._busy -= 1
            if job.future.done():
                self._give_back_memory(job)
        return Fate.RETIRE if fate is Fate.RETIRE_AND_RETRY else fate

    async def _next_job(self, child: ChildProcess, queue: JobQueue) -> PixelJob | None:
        taker = queue.take()
        if taker.done():
            return taker.result()
        child.watch(lambda: None if taker.done() else taker.set_result(None))
        self._idle[child] = taker
        try:
            return await taker
        finally:
            del self._idle[child]
            child.unwatch()

    def _death(self, exc: Exception, child: ChildProcess) -> PixelsTimedOut | PixelProcessDied:
        log.warning("pixel process %d lost with a job: %s %s", child.pid, type(exc).__name__, exc)
        if isinstance(exc, TimeoutError):
            limit_s = self._settings.pixel_timeout_s
            return PixelsTimedOut(f"the image took longer than the {limit_s:g} s allowed")
        return PixelProcessDied("the pixel process died while it worked on the image")


def _outcome(
    asked: Request, reply: Reply, data: bytes, warnings: tuple[PictureWarning, ...]
) -> Rendered | Exception:
    """Return what a process answered.

    Raises:
        ProtocolError: the result is not the picture that was asked for.
    """
    if reply.status != OK:
        return ERRORS[reply.status](data.decode("utf-8", "replace"))
    if asked.operation is not PixelOperation.CHECK_SVG:
        require_picture(asked, data)
    return Rendered(data, reply.width_px, reply.height_px, CONTENT_TYPES[reply.kind], warnings)


def _settle(job: PixelJob, outcome: Rendered | Exception) -> None:
    if job.future.done():  # its caller was cancelled
        return
    if isinstance(outcome, Exception):
        job.future.set_exception(outcome)
    else:
        job.future.set_result(outcome)

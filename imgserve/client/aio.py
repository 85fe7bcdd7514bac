"""The asynchronous client: `await`, on the caller's own event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from imgserve.client.ledger import Entry, Timing
from imgserve.client.outcome import (
    Outcome,
    accepted_reply,
    is_accepted,
    is_over,
    outcome_of,
    outcome_of_invalid,
    result_of,
)
from imgserve.client.session import Session, connection_path, key_source
from imgserve.client.submission import RequestLike, new_id, prepare
from imgserve.config import Settings
from imgserve.errors import RequestInvalid, RequestUnparsable, ServiceUnavailable
from imgserve.protocol.events import DeadLetters, JobState, State
from imgserve.protocol.jobs import Cancel, Replay

MapItem = RequestLike | tuple[str, RequestLike]
"""What `map` takes: a request, or (id, request) to know it again by its id."""


class AsyncJob:
    """One submitted job; as many handles and waits on it as you like."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id}: {self.state or 'not acknowledged'}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self.entry.job_id

    @property
    def state(self) -> State | None:
        """The furthest state heard of; None until the broker has it safe."""
        latest = self.entry.latest
        return None if latest is None else State(latest.state)

    async def accepted(self, timeout_s: float = 30) -> dict[str, Any]:
        """Wait until the placeholder is in place.

        Returns: `{"dstURL": …}`, every tag replaced.

        Raises:
            RequestInvalid: rejected, with its code.
            JobFailed: failed or cancelled before it was accepted.
            JobConflict: its id was used before with another request.
            ServiceUnavailable: no answer in time (502); the job goes on.
        """
        await self.until(is_accepted, timeout_s)
        return accepted_reply(self.entry)

    async def result(self, timeout_s: float = 300) -> Outcome:
        """Wait until the job is done; raises like `accepted`."""
        await self.until(is_over, timeout_s)
        return result_of(self.entry)

    async def until(self, reached: Callable[[Entry], bool], timeout_s: float) -> None:
        """Wait until the entry satisfies a predicate; ServiceUnavailable 502 when too late."""
        entry = self.entry
        if reached(entry):
            return
        loop = asyncio.get_running_loop()
        in_time: asyncio.Future[bool] = loop.create_future()

        def settle(verdict: bool) -> None:
            if not in_time.done():
                in_time.set_result(verdict)

        def watch(entry: Entry) -> None:
            if reached(entry):
                settle(True)

        entry.watchers.append(watch)
        timer = loop.call_later(timeout_s, settle, False)
        try:
            if not await in_time:
                raise ServiceUnavailable(
                    f"no answer on job {entry.job_id} in {timeout_s:g} s", code=502
                )
        finally:
            timer.cancel()
            entry.watchers.remove(watch)


class AsyncClient:
    """Submits jobs from an event loop and cannot lose one; use it with `async with`.

    Args:
        where: the broker's connection file, or settings that name it.
        priority: of jobs that name none, -100 to 100; higher goes first.
        timing: when things are said again.
        flush_s: how long closing waits for submits to be acknowledged.
        key: the file of a submitter's key; by default the settings' or this machine's own, where
            the broker asks for keys.
    """

    def __init__(
        self,
        where: str | os.PathLike[str] | Settings,
        *,
        priority: int = 0,
        timing: Timing | None = None,
        flush_s: float = 5,
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        self._path = connection_path(where)
        self._keys = key_source(where, key)
        self._priority = priority
        self._timing = timing
        self._flush_s = flush_s
        self._session: Session | None = None
        self._free = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._free.set()
        self._session = Session(
            path=self._path,
            timing=self._timing,
            on_congestion=self._congestion,
            keys=self._keys,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let submits be acknowledged, for flush_s at most, then close the sockets."""
        session, self._session = self._session, None
        if session is not None:
            await session.close(self._flush_s)

    @property
    def session(self) -> Session:
        """The open session; ServiceUnavailable 503 when the client is closed."""
        if self._session is None:
            raise ServiceUnavailable("the client is not open", code=503)
        return self._session

    @property
    def congested(self) -> bool:
        """Whether a submit would have to wait: the broker is full, silent or behind."""
        return self.session.congested

    async def submit(
        self,
        request: RequestLike,
        id: str | None = None,  # noqa: A002 (the interface's own word)
        priority: int | None = None,
        tag: str = "",
    ) -> AsyncJob:
        """Check and submit a request; waits only for backpressure.

        With a tag only workers that have it do the job.

        Raises: RequestUnparsable, RequestInvalid (1xx) at once; ProtocolError for a wrong id.
        """
        entry = prepare(request, id, self._priority if priority is None else priority, tag)
        await self._free.wait()
        return self.submit_entry(entry)

    def submit_entry(self, entry: Entry) -> AsyncJob:
        """Submit a prepared entry without waiting: for callers that do without when congested."""
        self.session.submit(entry)
        return AsyncJob(entry)

    def job(self, job_id: str) -> AsyncJob:
        """Return a handle on an earlier job; its waits raise JobUnknown if there is none."""
        return self.submit_entry(Entry(job_id, None))

    def forget(self, job: AsyncJob) -> None:
        """Wait no more for a job, unless another wait is on it; the job itself goes on."""
        self.session.ledger.drop(job.entry)

    async def map(
        self, requests: Iterable[MapItem] | AsyncIterator[MapItem], window: int = 256
    ) -> AsyncIterator[Outcome]:
        """Submit many requests, at most window of them at once; yields outcomes as they end."""
        ended: asyncio.Queue[Entry] = asyncio.Queue()

        def watch(entry: Entry) -> None:
            if entry.over:
                ended.put_nowait(entry)

        running = 0
        async for item in _each(requests):
            entry = prepare_item(item, self._priority)
            if isinstance(entry, Outcome):
                yield entry
                continue
            entry.watchers.append(watch)
            await self._free.wait()
            self.session.submit(entry)
            running += 1
            while running >= window or not ended.empty():
                outcome = outcome_of(await ended.get())
                running -= 1
                yield outcome
        while running:
            outcome = outcome_of(await ended.get())
            running -= 1
            yield outcome

    async def find(self, job_id: str, timeout_s: float = 5) -> JobState | None:
        """Ask the broker for the present state of a job; None when it knows none."""
        message = Replay(self.session.submitter, (job_id,))
        answer = await self.session.ask(message, job_id, timeout_s)
        return answer if isinstance(answer, JobState) else None

    async def cancel(self, job_id: str, timeout_s: float = 5) -> JobState | None:
        """Cancel a job; returns its state now, None when the broker knows no such job."""
        message = Cancel(job_id, self.session.submitter)
        answer = await self.session.ask(message, job_id, timeout_s)
        return answer if isinstance(answer, JobState) else None

    async def stats(self, timeout_s: float = 5) -> Mapping[str, Any]:
        """Ask the broker for its figures."""
        return await self.session.stats(timeout_s)

    async def dead(self, action: str, job_id: str = "", timeout_s: float = 5) -> DeadLetters:
        """Work with dead letters: list, show, retry or drop."""
        return await self.session.dead(action, job_id, timeout_s)

    def _congestion(self, congested: bool) -> None:
        if congested:
            self._free.clear()
        else:
            self._free.set()


def prepare_item(item: MapItem, priority: int) -> Entry | Outcome:
    """Return the entry of one item of `map`, or the outcome of an invalid one."""
    job_id, request = item if isinstance(item, tuple) else (None, item)
    try:
        return prepare(request, job_id, priority)
    except (RequestInvalid, RequestUnparsable) as exc:
        return outcome_of_invalid(job_id or new_id(), exc)


async def _each(items: Iterable[MapItem] | AsyncIterator[MapItem]) -> AsyncIterator[MapItem]:
    if isinstance(items, AsyncIterator):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item

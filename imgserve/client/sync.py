"""The blocking client: the same session on a thread of its own, for use from any thread."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import zmq

from imgserve.client.aio import MapItem, prepare_item
from imgserve.client.ledger import Entry, Timing
from imgserve.client.outcome import (
    Outcome,
    accepted_reply,
    is_accepted,
    is_over,
    outcome_of,
    result_of,
)
from imgserve.client.session import Session, connection_path, key_source
from imgserve.client.submission import RequestLike, prepare
from imgserve.config import Settings
from imgserve.errors import ServiceUnavailable
from imgserve.protocol.events import DeadLetters, JobState, Refused, State
from imgserve.protocol.jobs import Cancel, JobsMessage, Replay

INBOX_LIMIT: Final = 1000
"""Submits on their way to the thread; then submitting blocks, so that memory stays bounded."""

Answer = TypeVar("Answer")


class Job:
    """One submitted job; as many handles and waits on it as you like, from any thread."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.state or 'not acknowledged'}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self.entry.job_id

    @property
    def state(self) -> State | None:
        """The furthest state heard of; None until the broker has it safe."""
        latest = self.entry.latest
        return None if latest is None else State(latest.state)

    def accepted(self, timeout_s: float = 30) -> dict[str, Any]:
        """Wait until the placeholder is in place.

        Returns: `{"dstURL": …}`, every tag replaced.

        Raises:
            RequestInvalid: rejected, with its code.
            JobFailed: failed or cancelled before it was accepted.
            JobConflict: its id was used before with another request.
            ServiceUnavailable: no answer in time (502); the job goes on.
        """
        self._until(is_accepted, timeout_s)
        return accepted_reply(self.entry)

    def result(self, timeout_s: float = 300) -> Outcome:
        """Wait until the job is done; raises like `accepted`."""
        self._until(is_over, timeout_s)
        return result_of(self.entry)

    def _until(self, reached: Callable[[Entry], bool], timeout_s: float) -> None:
        entry = self.entry
        if reached(entry):
            return
        news = threading.Event()

        def watch(entry: Entry) -> None:
            if reached(entry):
                news.set()

        entry.watchers.append(watch)
        try:
            # Looked at again once the watcher is in place: the news may have come in between.
            if not reached(entry) and not news.wait(timeout_s):
                raise ServiceUnavailable(
                    f"no answer on job {entry.job_id} in {timeout_s:g} s", code=502
                )
        finally:
            entry.watchers.remove(watch)


class Client:
    """Submits jobs from any thread and cannot lose one; use it with `with`.

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
        self._inbox: deque[Entry] = deque()
        self._room = threading.Condition()
        self._waking = False
        self._closed = False
        self._failure: OSError | zmq.ZMQError | None = None
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(started)), name="imgserve-client", daemon=True
        )
        self._thread.start()
        started.wait()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let submits be acknowledged, for flush_s at most, then close sockets and thread."""
        with self._room:
            if self._closed:
                return
            self._closed = True
            self._room.notify_all()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def submit(
        self,
        request: RequestLike,
        id: str | None = None,  # noqa: A002 (the interface's own word)
        priority: int | None = None,
        tag: str = "",
    ) -> Job:
        """Check and submit a request; blocks only for backpressure.

        With a tag only workers that have it do the job.

        Raises: RequestUnparsable, RequestInvalid (1xx) at once; ProtocolError for a wrong id.
        """
        entry = prepare(request, id, self._priority if priority is None else priority, tag)
        self._post(entry)
        return Job(entry)

    def job(self, job_id: str) -> Job:
        """Return a handle on an earlier job; its waits raise JobUnknown if there is none."""
        entry = Entry(job_id, None)
        self._post(entry)
        return Job(entry)

    def map(self, requests: Iterable[MapItem], window: int = 256) -> Iterator[Outcome]:
        """Submit many requests, at most window of them at once; yields outcomes as they end.

        Args:
            requests: requests, or (id, request) to know them again by their ids.
            window: how many may be under way: enough to keep the workers busy.
        """
        ended: queue.SimpleQueue[Entry] = queue.SimpleQueue()

        def watch(entry: Entry) -> None:
            if entry.over:
                ended.put(entry)

        running, items, more = 0, iter(requests), True
        while more or running:
            while more and running < window:
                try:
                    entry = prepare_item(next(items), self._priority)
                except StopIteration:
                    more = False
                    break
                if isinstance(entry, Outcome):
                    yield entry
                    continue
                entry.watchers.append(watch)
                self._post(entry)
                running += 1
            if running:
                yield outcome_of(self._next(ended))
                running -= 1
            while not ended.empty():
                yield outcome_of(ended.get())
                running -= 1

    def find(self, job_id: str, timeout_s: float = 5) -> JobState | None:
        """Ask the broker for the present state of a job; None when it knows none."""
        answer = self._ask(Replay(self._session.submitter, (job_id,)), job_id, timeout_s)
        return answer if isinstance(answer, JobState) else None

    def cancel(self, job_id: str, timeout_s: float = 5) -> JobState | None:
        """Cancel a job; returns its state now, None when the broker knows no such job."""
        answer = self._ask(Cancel(job_id, self._session.submitter), job_id, timeout_s)
        return answer if isinstance(answer, JobState) else None

    def stats(self, timeout_s: float = 5) -> Mapping[str, Any]:
        """Ask the broker for its figures."""
        return self._call(self._session.stats(timeout_s))

    def dead(self, action: str, job_id: str = "", timeout_s: float = 5) -> DeadLetters:
        """Work with dead letters: list, show, retry or drop."""
        return self._call(self._session.dead(action, job_id, timeout_s))

    def _post(self, entry: Entry) -> None:
        with self._room:
            while len(self._inbox) >= INBOX_LIMIT and not self._closed:
                self._room.wait()
            if self._closed:
                raise ServiceUnavailable("the client is closed", code=503)
            self._inbox.append(entry)
            wake, self._waking = not self._waking, True
        if wake:
            self._loop.call_soon_threadsafe(self._take_inbox)

    def _next(self, ended: queue.SimpleQueue[Entry]) -> Entry:
        while True:
            try:
                return ended.get(timeout=1)
            except queue.Empty:
                if self._closed:
                    raise ServiceUnavailable("the client is closed", code=503) from None

    def _ask(self, message: JobsMessage, job_id: str, timeout_s: float) -> JobState | Refused:
        return self._call(self._session.ask(message, job_id, timeout_s))

    def _call(self, question: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result()

    # From here on: the thread's own side.

    async def _live(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            self._session = Session(
                path=self._path,
                timing=self._timing,
                on_congestion=self._congestion,
                keys=self._keys,
            )
        except (OSError, zmq.ZMQError) as exc:  # no descriptors left
            self._failure = exc
            return
        finally:
            started.set()
        await self._stop.wait()
        deadline_s = self._loop.time() + self._flush_s
        while self._inbox and self._loop.time() < deadline_s:  # noqa: ASYNC110 (once)
            await asyncio.sleep(0.01)
        await self._session.close(deadline_s - self._loop.time())

    def _take_inbox(self) -> None:
        with self._room:
            self._waking = False
        session, inbox = self._session, self._inbox
        for _ in range(INBOX_LIMIT):
            if not inbox or session.congested:
                break
            session.submit(inbox.popleft())
        else:
            self._loop.call_soon(self._take_inbox)
        with self._room:
            self._room.notify_all()

    def _congestion(self, congested: bool) -> None:
        if not congested:
            self._loop.call_soon(self._take_inbox)

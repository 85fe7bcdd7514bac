"""Curl in threads, for FTP: libcurl's easy interface, one kept connection a handle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import pycurl

from imgserve.worker.transfers.exchange import Exchange, base_options
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.trouble import TransferFailed
from imgserve.worker.transfers.urls import Target

Result = TypeVar("Result")

# Servers count the connections that nobody uses, too, and other workers have to do with the rest.
_IDLE_S = 5.0


class Session:
    """A handle with its kept connection, used by one thread at a time.

    `cancelled` may be set from the event loop; the transfer then ends within a second.
    """

    def __init__(self, curl: pycurl.Curl, run: Callable[[Session, Exchange], None]) -> None:
        self.curl = curl
        self.cancelled = False
        self._run = run

    def run(self, exchange: Exchange) -> None:
        """Run one exchange to its end.

        Raises:
            TransferFailed: curl gave it up, or it was cancelled before or while it ran.
        """
        self._run(self, exchange)


class CurlThreads:
    """Runs exchanges in threads.

    At the end of an FTP transfer libcurl waits for the server's last reply without giving the
    event loop back, in the multi interface too (its docs/TODO, "multi_done"): a server that
    withholds it would stop every job and heartbeat of the worker. Measured: a reply 3 s late
    stopped the loop for 3 s. In a thread it holds up nothing but itself.
    """

    def __init__(self, settings: TransferSettings, may_send: Callable[[], bool]) -> None:
        self._settings = settings
        self._may_send = may_send
        self._base = base_options(settings)
        self._pool: ThreadPoolExecutor | None = None
        # A connection belongs to a handle here, so handles are kept by whom they are connected to.
        self._idle: list[_Idle] = []
        self._active: set[Session] = set()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._settings.ftp_transfers, thread_name_prefix="ftp")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Ask first, so that the wait is short; handles close when no thread uses them any more.
        for session in self._active:
            session.cancelled = True
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        while self._idle:
            idle = self._idle.pop()
            idle.timer.cancel()
            idle.curl.close()

    def make_room(self, target: Target, places: int) -> None:
        """Close other users' unused connections to a server that has so many places left."""
        key = _key(target)
        if any(idle.key == key for idle in self._idle):
            return  # one of its own will be used
        unused = [idle for idle in self._idle if idle.is_of(target)]
        for idle in unused[: max(0, len(unused) - places + 1)]:
            self._close(idle)

    async def run(self, target: Target, work: Callable[[Session], Result]) -> Result:
        """Do blocking work in a thread with a handle, best one connected to the target already.

        Raises:
            TransferFailed: the work did.
        """
        if self._pool is None:
            raise RuntimeError("the threads are not open")
        key = _key(target)
        session = Session(self._take_handle(key), self._perform)
        self._active.add(session)
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, session)
        future.add_done_callback(lambda done: self._ended(key, session, done))
        try:
            # Shielded: the thread goes on until it sees the flag, and only then is its handle free.
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            session.cancelled = True
            raise

    def _perform(self, session: Session, exchange: Exchange) -> None:
        if self._is_over(session):
            raise TransferFailed("the transfer was cancelled")
        curl = session.curl
        try:
            exchange.prepare(curl, self._base)
            curl.setopt(pycurl.NOPROGRESS, 0)
            curl.setopt(pycurl.XFERINFOFUNCTION, lambda *_: int(self._is_over(session)))
            try:
                curl.perform()
                exchange.finish(curl)
            except pycurl.error as exc:
                exchange.finish(curl)
                raise exchange.explain(curl, exc) from exc
        finally:
            curl.reset()

    def _is_over(self, session: Session) -> bool:
        return session.cancelled or not self._may_send()

    def _take_handle(self, key: tuple[str, ...]) -> pycurl.Curl:
        # The one used last: those used first may end.
        for idle in reversed(self._idle):
            if idle.key == key:
                self._idle.remove(idle)
                idle.timer.cancel()
                return idle.curl
        return pycurl.Curl()

    def _ended(self, key: tuple[str, ...], session: Session, done: asyncio.Future[Result]) -> None:
        # Of abandoned work nobody asks for its error, and asyncio would log a traceback.
        failure = None if done.cancelled() else done.exception()
        if isinstance(failure, TransferFailed) and failure.too_many_connections:
            # It has no connection, and would be taken before those that have one.
            self._active.discard(session)
            session.curl.close()
        else:
            self._give_back(key, session)

    def _give_back(self, key: tuple[str, ...], session: Session) -> None:
        self._active.discard(session)
        if self._pool is None:
            session.curl.close()
            return
        idle = _Idle(key, session.curl)
        idle.timer = asyncio.get_running_loop().call_later(_IDLE_S, self._close, idle)
        self._idle.append(idle)
        if len(self._idle) > self._settings.connections_kept:
            self._close(self._idle[0])

    def _close(self, idle: _Idle) -> None:
        """Say goodbye in a thread: a server may keep one waiting for its answer."""
        if idle not in self._idle:
            return
        self._idle.remove(idle)
        idle.timer.cancel()
        if self._pool is not None:
            self._pool.submit(idle.curl.close)


@dataclass(slots=True, eq=False)
class _Idle:
    """A handle that nobody uses, with its connection."""

    key: tuple[str, ...]
    curl: pycurl.Curl
    timer: asyncio.TimerHandle = field(init=False)

    def is_of(self, target: Target) -> bool:
        return self.key[1] == target.endpoint


def _key(target: Target) -> tuple[str, ...]:
    return target.scheme, target.endpoint, target.username, target.password

"""A download in progress: its head can be read while the rest still arrives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.trouble import TransferFailed


class Inbox:
    """The bytes of one source, counted as they come.

    It may be fed from another thread: the readers are woken through the loop.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self.is_too_large = False
        self._chunks: list[bytes] = []
        self._wanted_bytes = 0
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()

    def feed(self, chunk: bytes) -> None:
        """Take a chunk.

        Raises:
            TransferFailed: the source has more bytes than the limit.
        """
        if self.size_bytes + len(chunk) > self.limit_bytes:
            self.is_too_large = True
            raise trouble.too_large(self.limit_bytes)
        self._chunks.append(chunk)
        self.size_bytes += len(chunk)
        if self._wanted_bytes and self.size_bytes >= self._wanted_bytes:
            self._wanted_bytes = 0  # woken once: from another thread that writes to a pipe
            if threading.get_ident() == self._thread_id:
                self._arrived.set()
            else:
                self._loop.call_soon_threadsafe(self._arrived.set)

    def data(self) -> bytes:
        """Return all that has come so far."""
        count = len(self._chunks)
        if count > 1:
            # In place: a thread may append meanwhile.
            self._chunks[:count] = [b"".join(self._chunks[:count])]
        return self._chunks[0] if count else b""

    def wake(self) -> None:
        """Let the reader look again: nothing more will come."""
        self._arrived.set()

    async def wait(self, size_bytes: int) -> None:
        """Wait until so many bytes are there, or `wake`."""
        # First what is wanted, then the look: a thread that feeds in between sees the wish.
        self._wanted_bytes = size_bytes
        if self.size_bytes < size_bytes:
            await self._arrived.wait()
        self._wanted_bytes = 0
        self._arrived.clear()


class Download:
    """One source being fetched; leaving the context aborts what still runs.

    Args:
        inbox: where the bytes arrive.
        fetch: fetches everything into the inbox.
    """

    def __init__(self, inbox: Inbox, fetch: Callable[[], Awaitable[None]]) -> None:
        self._inbox = inbox
        self._fetch = fetch
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = self._running()
        if not task.done():
            task.cancel()
            # Not awaited by name: its own failure was for head() and body() to raise.
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        task = self._running()
        return task.done() and not task.cancelled() and task.exception() is None

    async def head(self, size_bytes: int) -> bytes:
        """Wait for the first bytes while the rest still arrives.

        Args:
            size_bytes: how many are wanted; more may be returned, fewer only where the source
                has fewer.

        Returns:
            Everything that has arrived by then.

        Raises:
            SourceUnreachable, SourceForbidden: it failed before so many came.
            SourceTooLarge: it has more bytes than the limit, as far as is known by now.
        """
        task = self._running()
        if self._inbox.size_bytes < size_bytes and not task.done():
            await self._inbox.wait(size_bytes)
        if task.done() and self._inbox.size_bytes < size_bytes:
            task.result()
        if self._inbox.is_too_large:
            # Known before the transfer has ended: nothing can come of it, however good its head.
            await self.body()
        return self._inbox.data()

    async def body(self) -> bytes:
        """Wait for all bytes.

        Raises:
            SourceUnreachable, SourceTooLarge, SourceForbidden: the fetch failed.
        """
        task = self._running()
        if task.done():
            task.result()
        else:
            # Shielded: a caller that gives up waiting must not end the download by that.
            await asyncio.shield(task)
        return self._inbox.data()

    async def _run(self) -> None:
        try:
            await self._fetch()
        except TransferFailed as failure:
            raise trouble.source_error(failure) from (failure.__cause__ or failure)
        finally:
            self._inbox.wake()

    def _running(self) -> asyncio.Task[None]:
        if self._task is None:
            raise RuntimeError("a Download starts with `async with`")
        return self._task

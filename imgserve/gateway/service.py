"""What all handlers of one gateway process share: its client, limits, counters and shutdown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from tornado.httputil import HTTPConnection

from imgserve.client import AsyncClient, AsyncJob
from imgserve.client.ledger import Entry
from imgserve.config import Settings
from imgserve.errors import JobConflict, ServiceUnavailable
from imgserve.gateway.access_log import LineBudget
from imgserve.gateway.metrics import HttpMetrics
from imgserve.gateway.tokens import Tokens
from imgserve.protocol.events import Refusal
from imgserve.request import ResultLimits

T = TypeVar("T")

FAREWELL_S: Final = 10.0
"""How long requests may wait on once the gateway is asked to end; a load balancer's patience."""

SETTLE_S: Final = 1.0
"""For the last answers to be written before connections close."""

BODIES_KEPT_BYTES: Final = 64 * 1024 * 1024
"""For what all bodies that arrive now have over 64 KiB: slow uploads must not fill the memory."""

RECENT_S: Final = 0.1
"""A probe's answer may be this old; load balancers ask every few seconds."""

TROUBLE: Final = {Refusal.OVERLOADED: 501, Refusal.DRAINING: 503}


class Service:
    """One gateway process.

    Args:
        settings: the settings.
        client: its own client, open.
        tokens: who may use it; None: everyone, for ever.
    """

    def __init__(
        self, settings: Settings, client: AsyncClient, tokens: Tokens | None = None
    ) -> None:
        self.settings = settings
        self.client = client
        self.tokens = tokens
        self.result_limits = ResultLimits(
            pixels=settings.result_limit_pixels, side_px=settings.result_limit_side_px
        )
        self.metrics = HttpMetrics()
        self.lines = LineBudget()
        self.body_room_bytes = BODIES_KEPT_BYTES
        self.draining = False
        self.is_reserved: Callable[[HTTPConnection | None], bool] = lambda _connection: False
        self._waiting: set[asyncio.Task[object]] = set()
        self._late = False
        self._asking: asyncio.Future[Mapping[str, Any]] | None = None
        self._asked_s = 0.0

    @property
    def waiting(self) -> int:
        """HTTP requests that wait for the broker now."""
        return len(self._waiting)

    @property
    def asks_for_tokens(self) -> bool:
        """Whether requests need a token now."""
        return self.tokens is not None and self.tokens.asked_for

    async def recent_figures(self, timeout_s: float) -> Mapping[str, Any]:
        """Return the broker's figures; with tokens RECENT_S old at most.

        Where strangers can only probe, probing must not become a way to make the broker work.

        Raises: ServiceUnavailable when it did not answer.
        """
        now_s, max_age_s = time.monotonic(), RECENT_S if self.asks_for_tokens else 0.0
        asked = self._asking
        if asked is None or (asked.done() and now_s - self._asked_s > max_age_s):
            self._asked_s = now_s
            asked = self._asking = asyncio.ensure_future(self.client.stats(timeout_s))
        return await asyncio.shield(asked)

    def check_room(self) -> None:
        """Raise ServiceUnavailable when no further request can be taken on."""
        if self.draining:
            raise ServiceUnavailable("the service is shutting down", code=503)
        if self.waiting >= self.settings.waiting_limit:
            raise ServiceUnavailable(
                f"{self.waiting} requests are waiting; at most {self.settings.waiting_limit} may",
                code=501,
            )
        if self.client.congested:
            raise ServiceUnavailable("the broker takes no jobs now", code=501)

    async def wait(self, entry: Entry, reached: Callable[[Entry], bool]) -> None:
        """Submit a job and wait for its entry to get somewhere; nothing else is held up.

        Raises:
            ServiceUnavailable: overloaded, too late, or shutting down; the wait is over then.
            JobConflict: the id was used for another request.
            asyncio.CancelledError: `abandon` was called, since the HTTP client is gone.
        """
        self.check_room()
        job = self.client.submit_entry(entry)
        try:
            with self._holding_the_end_up():
                await job.until(
                    lambda entry: reached(entry) or _refused(entry), self.settings.answer_timeout_s
                )
        finally:
            self._let_go(job)
        _raise_refusal(entry)

    async def ask(self, question: Awaitable[T]) -> T:
        """Wait for what the broker says to a question that was put to the client.

        Raises: ServiceUnavailable when it did not answer, or the service is shutting down.
        """
        with self._holding_the_end_up():
            return await question

    @contextmanager
    def _holding_the_end_up(self) -> Iterator[None]:
        """Let `drain` wait for the task that does this, and tell that task when it is too late."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine always runs in a task)
        self._waiting.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._late:
                raise
            task.uncancel()
            raise ServiceUnavailable("the service is shutting down", code=503) from None
        finally:
            self._waiting.discard(task)

    async def drain(self) -> None:
        """Let waiting requests have their answers, for FAREWELL_S; then 503 for the rest."""
        self.draining = True
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=FAREWELL_S)
        self._late = True
        late = tuple(self._waiting)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=SETTLE_S)

    def _let_go(self, job: AsyncJob) -> None:
        """Whatever comes next, nobody here waits for it: the ledger need not keep the job."""
        with suppress(ServiceUnavailable):
            self.client.forget(job)


def _refused(entry: Entry) -> bool:
    return entry.refusal is not None and entry.refusal.reason != Refusal.UNKNOWN


def _raise_refusal(entry: Entry) -> None:
    if entry.refusal is None or entry.latest is not None:
        return
    reason, detail = Refusal(entry.refusal.reason), entry.refusal.detail
    if reason == Refusal.CONFLICT:
        raise JobConflict(detail)
    if reason in TROUBLE:
        raise ServiceUnavailable(detail, code=TROUBLE[reason])

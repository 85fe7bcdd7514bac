"""What both ways to submit share: read the request and its headers, wait without blocking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tornado.web import Finish

from imgserve.client.ledger import Entry
from imgserve.client.submission import prepare
from imgserve.errors import RequestInvalid, RequestUnparsable
from imgserve.gateway.base import Handler
from imgserve.protocol.checks import is_identifier
from imgserve.protocol.jobs import PRIORITY_HIGH, PRIORITY_LOW
from imgserve.request import REQUEST_LIMIT_BYTES, parse, quoted

KEY_HEADER: Final = "Idempotency-Key"
PRIORITY_HEADER: Final = "Imgserve-Priority"
TAG_HEADER: Final = "Imgserve-Tag"


class SubmitHandler(Handler):
    """The base of the handlers that take a request."""

    _task: asyncio.Task[object] | None = None

    @property
    def location(self) -> str:
        """Where the job can be asked for."""
        return f"/jobs/{self.job_id}"

    def read_entry(self) -> Entry:
        """Check body and headers.

        Raises: RequestUnparsable; RequestInvalid, with 115 for a header that is not allowed.
        """
        if self.dropped:
            if not self.looks_like_object:
                raise RequestUnparsable("the body is not a JSON object")
            raise RequestInvalid(
                f"the request has {self.body_bytes} bytes; at most {REQUEST_LIMIT_BYTES} are taken",
                code=117,
            )
        entry = prepare(bytes(self.body), None, 0, limits=self.service.result_limits)
        self.body.clear()
        self._check_urls(entry)
        entry.priority = self._priority()
        entry.tag = self._tag()
        entry.job_id = self._id() or entry.job_id
        return entry

    async def wait_for(self, entry: Entry, reached: Callable[[Entry], bool]) -> None:
        """Wait like `Service.wait`; ends the handler when the HTTP client is gone."""
        self._task = asyncio.current_task()
        try:
            await self.service.wait(entry, reached)
        except asyncio.CancelledError:
            raise Finish from None
        finally:
            self._task = None
            if entry.latest is not None:
                self.set_header("Location", self.location)

    def on_connection_close(self) -> None:
        """Drop the wait of a client that is gone; its job goes on."""
        super().on_connection_close()
        if self._task is not None:
            self._task.cancel()

    def _check_urls(self, entry: Entry) -> None:
        """Code 301 for what this token may not fetch, 302 for what it may not write to."""
        token = self.token
        if token is None or token.destinations is token.sources is None:
            return
        request = parse(entry.payload or b"")
        if not token.permits_source(request.src_url):
            raise RequestInvalid(f"the token {token.name} does not permit this source", code=301)
        if not token.permits_destination(request.destination.url):
            raise RequestInvalid(
                f"the token {token.name} does not permit this destination", code=302
            )

    def _id(self) -> str | None:
        """The job's id by the client's key; with tokens it is one of the token's own."""
        key = self._key()
        if self.token is None:
            return key
        return self.token.fresh_id() if key is None else self.token.id_of(key)

    def _key(self) -> str | None:
        key = self.request.headers.get(KEY_HEADER)
        if key is None or is_identifier(key):
            return key
        raise RequestInvalid(
            f"{KEY_HEADER} is {quoted(key)}; it can be 1 to 64 of A-Z a-z 0-9 _ . : -", code=115
        )

    def _tag(self) -> str:
        tag = self.request.headers.get(TAG_HEADER, "")
        if not tag or is_identifier(tag):
            return str(tag)
        raise RequestInvalid(
            f"{TAG_HEADER} is {quoted(tag)}; it can be 1 to 64 of A-Z a-z 0-9 _ . : -", code=115
        )

    def _priority(self) -> int:
        text = self.request.headers.get(PRIORITY_HEADER)
        if text is None:
            return self.service.settings.http_priority
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= 3:
            priority = int(text)
            if PRIORITY_LOW <= priority <= PRIORITY_HIGH:
                return priority
        raise RequestInvalid(
            f"{PRIORITY_HEADER} is {quoted(text)}; it can be {PRIORITY_LOW} to {PRIORITY_HIGH}",
            code=115,
        )

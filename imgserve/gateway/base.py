"""What every handler does: headers, JSON bodies, errors, a bounded request body, one log line."""

from __future__ import annotations

import json
import math
import time
from asyncio import Future
from collections.abc import Mapping
from http.client import responses
from typing import Any, Final

from tornado.web import RequestHandler, stream_request_body

from imgserve.errors import CODES, ServiceUnavailable
from imgserve.gateway.origins import HostNames, refusal
from imgserve.gateway.service import Service
from imgserve.gateway.tokens import Token
from imgserve.request import REQUEST_LIMIT_BYTES

BODY_KEPT_BYTES: Final = 1024 * 1024
"""Of a body, what is kept to be judged in full; far over the 64 KiB that may pass (code 117)."""

BODY_DRAINED_BYTES: Final = 16 * 1024 * 1024
"""What is read and thrown away so that the client hears its verdict, not a reset connection."""

RETRY_AFTER_S: Final = {501: 1, 502: 5, 503: 5}
"""Overload passes soonest; a service that ends is back when its successor is up."""

JSON: Final = "application/json"
_WHITE: Final = b" \t\r\n"


@stream_request_body
class Handler(RequestHandler):
    """The base of all handlers.

    `allowed` are the methods that a 405 names; a handler that names none answers 404.
    `public` handlers ask for no token. `probe` handlers tell how the service does: they are
    answered over the reserve of connections, too, and their successes are not logged.
    """

    allowed: tuple[str, ...] = ()
    public = False
    probe = False
    route = "other"

    def initialize(self, service: Service, names: HostNames) -> None:
        """Take what the application hands to every handler."""
        self.service = service
        self.names = names
        self.job_id = ""
        self.token: Token | None = None
        self.body = bytearray()
        self.body_bytes = 0
        self.dropped = False
        self.reserved = False
        self._drawn_bytes = 0
        self._first = b""

    def set_default_headers(self) -> None:
        """Say no version, cache nothing, let no browser guess types."""
        self.clear_header("Server")
        self.set_header("Content-Type", JSON)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        # Answers are data: whatever a browser makes of one, it runs, loads and frames nothing.
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        if self.request.protocol == "https":
            self.set_header("Strict-Transport-Security", "max-age=31536000")

    def prepare(self) -> None:
        """Ask for a token before a byte of the body is read."""
        tokens = self.service.tokens if self.service.asks_for_tokens else None
        self.reserved = self.service.is_reserved(self.request.connection)
        if self.reserved:
            self.set_header("Connection", "close")
        if tokens is None and self.reserved and not self.probe:
            detail = "all connections but those kept for probes are taken"
            self.set_header("Retry-After", "1")
            self.reply(503, {"msg": "too many connections", "detail": detail})
            return
        if not self.public and (why_not := refusal(self.request, self.names)) is not None:
            status, detail = why_not
            self.reply(status, {"msg": responses[status].lower(), "detail": detail})
            return
        if tokens is None or self.public:
            return
        header = self.request.headers.get("Authorization", "")
        self.token = tokens.find(header)
        if self.token is None:
            self._unauthorized(known=bool(header))
        elif self.token.bucket is not None:
            wait_s = self.token.bucket.take(time.monotonic())
            if wait_s:
                self.set_header("Retry-After", str(math.ceil(wait_s)))
                detail = "this token's requests come too fast"
                self.reply(429, {"msg": "too many requests", "detail": detail})

    def _unauthorized(self, *, known: bool) -> None:
        """RFC 6750, section 3: no error code for who did not try."""
        error = ', error="invalid_token"' if known else ""
        self.set_header("WWW-Authenticate", f'Bearer realm="imgserve"{error}')
        detail = "this token is not valid" if known else "a bearer token is needed"
        self.reply(401, {"msg": "unauthorized", "detail": detail})

    def compute_etag(self) -> str | None:
        """No entity tags: nothing here is cached."""
        return None

    def check_xsrf_cookie(self) -> None:
        """No cookies, no forgery: nothing to check."""

    def data_received(self, chunk: bytes) -> None:
        """Keep a body up to BODY_KEPT_BYTES while there is room, else only its first character."""
        self.body_bytes += len(chunk)
        if not self._first:
            self._first = chunk.lstrip(_WHITE)[:1]
        if not self.dropped and self.body_bytes <= BODY_KEPT_BYTES and self._draw():
            self.body += chunk
        else:
            self.dropped = True
            self.body.clear()
            self._give_back()

    def _draw(self) -> bool:
        """Take from the process's room what goes over a request that may pass."""
        more_bytes = max(0, self.body_bytes - REQUEST_LIMIT_BYTES) - self._drawn_bytes
        if more_bytes > self.service.body_room_bytes:
            return False
        self.service.body_room_bytes -= more_bytes
        self._drawn_bytes += more_bytes
        return True

    def _give_back(self) -> None:
        self.service.body_room_bytes += self._drawn_bytes
        self._drawn_bytes = 0

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """End the answer; over the reserve the connection ends with it."""
        written = super().finish(chunk)
        if self.reserved:
            stream = getattr(self.request.connection, "stream", None)
            if stream is not None:
                written.add_done_callback(lambda _written: stream.close())
        return written

    def on_finish(self) -> None:
        """Make room for other bodies."""
        self._give_back()

    def on_connection_close(self) -> None:
        """Make room for other bodies: a client that is gone finishes nothing."""
        self.body.clear()
        self._give_back()

    @property
    def looks_like_object(self) -> bool:
        """Whether the body's first character is that of a JSON object."""
        return self._first == b"{"

    def reply(self, status: int, document: Mapping[str, Any]) -> None:
        """Send a JSON document."""
        self.set_status(status)
        self.finish(json.dumps(document))

    def reply_unavailable(self, trouble: ServiceUnavailable, *, detail: bool) -> None:
        """Send 503: the trouble is the service's own, and it passes."""
        self.set_header("Retry-After", str(RETRY_AFTER_S.get(trouble.code, 5)))
        document: dict[str, Any] = {"msg": "request invalid", "code": trouble.code}
        if detail:
            document |= {"msg": CODES[trouble.code].meaning, "detail": trouble.detail}
        self.reply(503, document)

    def write_error(self, status_code: int, **_: Any) -> None:
        """Send an error that Tornado raised, as JSON without internals."""
        if status_code == 405 and self.allowed:
            self.set_header("Allow", ", ".join(self.allowed))
        elif status_code == 405:
            self.set_status(404)
        self.finish(json.dumps({"msg": self._reason.lower()}))


class NotFoundHandler(Handler):
    """Every path that is not in the table."""

    def prepare(self) -> None:
        """Answer whatever the method is, once the body is in."""
        super().prepare()
        if not self._finished:
            self.reply(404, {"msg": "not found", "detail": "there is no such page"})

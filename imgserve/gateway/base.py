"""What every handler does: headers, JSON bodies, errors, a bounded request body, one log line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tornado.web import RequestHandler, stream_request_body

from imgserve.errors import CODES, ServiceUnavailable
from imgserve.gateway.service import Service

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
    """

    allowed: tuple[str, ...] = ()
    route = "other"

    def initialize(self, service: Service) -> None:
        """Take what the application hands to every handler."""
        self.service = service
        self.job_id = ""
        self.body = bytearray()
        self.body_bytes = 0
        self._first = b""

    def set_default_headers(self) -> None:
        """Say no version, cache nothing, let no browser guess types."""
        self.clear_header("Server")
        self.set_header("Content-Type", JSON)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")

    def compute_etag(self) -> str | None:
        """No entity tags: nothing here is cached."""
        return None

    def check_xsrf_cookie(self) -> None:
        """No cookies, no forgery: nothing to check."""

    def data_received(self, chunk: bytes) -> None:
        """Keep a body up to BODY_KEPT_BYTES; of a longer one only its first character counts."""
        self.body_bytes += len(chunk)
        if not self._first:
            self._first = chunk.lstrip(_WHITE)[:1]
        if self.body_bytes <= BODY_KEPT_BYTES:
            self.body += chunk
        else:
            self.body.clear()

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
        self.reply(404, {"msg": "not found", "detail": "there is no such page"})

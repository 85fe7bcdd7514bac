"""One HTTP request that follows no redirect, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message

import pycurl

from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.engine import Engine
from imgserve.worker.transfers.exchange import Exchange, Option
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.trouble import TransferFailed
from imgserve.worker.transfers.urls import Target

HTTP_PROTOCOLS = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS


@dataclass(slots=True)
class Answer:
    """What a server answered; of an HTML page the beginning is kept."""

    status: int
    page: bytes
    charset: str
    retry_after_s: float | None
    sent_bytes: int

    @property
    def ok(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300

    def failure(self) -> TransferFailed:
        """Explain a status that is no success."""
        failure = trouble.of_status(self.status, self.retry_after_s)
        if 300 <= self.status < 400:
            failure.detail += "; uploads follow no redirect"
        return failure


class Web:
    """Sends requests over the engine."""

    def __init__(self, settings: TransferSettings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine

    async def send(self, target: Target, method: str, body: bytes, content_type: str) -> Answer:
        """Send a body and read the answer, whatever its status.

        Raises:
            TransferFailed: there was no answer, or one of success before the whole body was sent.
        """
        answer = await self._ask(
            target,
            # From memory, without a callback: curl itself rewinds when a kept connection turns
            # out to be dead.
            (pycurl.POST, 1),
            (pycurl.POSTFIELDS, body),
            (pycurl.CUSTOMREQUEST, method),
            # Expect would cost a round trip, or a second with servers that do not know it.
            (pycurl.HTTPHEADER, [f"Content-Type: {content_type}", "Expect:"]),
        )
        if answer.ok and answer.sent_bytes < len(body):
            progress = f"{answer.sent_bytes} of {len(body)} bytes"
            raise TransferFailed(
                f"the server answered {answer.status} after {progress}", retryable=True
            )
        return answer

    async def get(self, target: Target) -> Answer:
        """Read a page, whatever its status.

        Raises:
            TransferFailed: there was no answer.
        """
        return await self._ask(target)

    async def _ask(self, target: Target, *options: Option) -> Answer:
        page = bytearray()
        limit_bytes = self._settings.form_page_limit_bytes
        is_html: bool | None = None

        def take(exchange: Exchange, chunk: bytes) -> None:
            nonlocal is_html
            if is_html is None:  # asked once: a server may send many headers and many chunks
                media_type = exchange.headers.get("content-type", "").lower()
                is_html = media_type.startswith("text/html")
            if is_html and len(page) < limit_bytes:
                page.extend(chunk[: limit_bytes - len(page)])

        exchange = Exchange(
            target,
            (
                (pycurl.PROTOCOLS, HTTP_PROTOCOLS),
                (pycurl.TIMEOUT_MS, int(self._settings.upload_timeout_s * 1000)),
                *options,
            ),
            take,
        )
        await self._engine.run(exchange)
        return Answer(
            exchange.status,
            bytes(page),
            _charset(exchange.headers.get("content-type", "")) if page else "",
            exchange.retry_after_s,
            exchange.sent_bytes,
        )


def _charset(content_type: str) -> str:
    header = Message()
    header["Content-Type"] = content_type
    return header.get_content_charset("")

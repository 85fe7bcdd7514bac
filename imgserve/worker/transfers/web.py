"""One HTTP request that follows no redirect, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from email.message import Message

import pycurl

from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.cookies import ChainCookies
from imgserve.worker.transfers.credentials import NEGOTIATED, Credentials
from imgserve.worker.transfers.engine import Engine
from imgserve.worker.transfers.exchange import Exchange, Option, header_options
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.trouble import TransferFailed
from imgserve.worker.transfers.urls import Target, parse_target
from imgserve.worker.transfers.words import WORDS_LIMIT_BYTES, body_words

HTTP_PROTOCOLS = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS


# What browsers follow with GET after a POST (HTML standard, and RFC 9110, 15.4.2 to 15.4.4).
SEE_OTHER = frozenset({301, 302, 303})
# Where a server does not take a file for a folder that is missing.
_FOLDER_MISSING = frozenset({404, 409, 500})
# More than what a connection holds on its way, so that an early answer may be lost with the rest.
_WAITING_BODY_BYTES = 64 * 1024
_PAGE_TYPES = ("text/html", "application/xhtml+xml")


@dataclass(slots=True)
class Answer:
    """What a server answered; of an HTML page the beginning is kept.

    Args:
        target: what was asked, after redirects.
        redirect_url: where the answer leads, or nothing.
        refusal: the status explained, of an answer that is no success.
    """

    status: int
    page: bytes
    charset: str
    sent_bytes: int
    target: Target
    redirect_url: str
    refusal: TransferFailed

    @property
    def ok(self) -> bool:
        """Whether the status says success."""
        return 200 <= self.status < 300

    @property
    def is_of_nginx(self) -> bool:
        """Whether nginx itself says 500, and not a server behind it."""
        return self.status == 500 and b"<hr><center>nginx" in self.page

    def failure(self) -> TransferFailed:
        """Explain a status that is no success."""
        failure = self.refusal
        if 300 <= self.status < 400:
            failure.detail += "; uploads follow no redirect"
        return failure

    def failure_of_put(self) -> TransferFailed:
        """Explain the refusal of a PUT, with its likely cause."""
        failure = self.failure()
        if self.status in _FOLDER_MISSING:
            failure.detail += (
                "; perhaps the folder does not exist: make it, or have the server make it "
                "(nginx: create_full_put_path on)"
            )
        return failure


class Web:
    """Sends requests over the engine."""

    def __init__(
        self, settings: TransferSettings, engine: Engine, credentials: Credentials
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._credentials = credentials

    async def send(
        self,
        target: Target,
        method: str,
        body: bytes,
        headers: tuple[str, ...],
        cookies: ChainCookies | None = None,
    ) -> Answer:
        """Send a body and read the answer, whatever its status.

        Raises:
            TransferFailed: there was no answer, or one of success before the whole body was sent.
        """
        answer = await self._ask(
            target,
            cookies,
            # From memory, without a callback: curl itself rewinds when a kept connection turns
            # out to be dead.
            (pycurl.POST, 1),
            (pycurl.POSTFIELDS, body),
            (pycurl.CUSTOMREQUEST, method),
            headers=headers,
            body_bytes=len(body),
        )
        if answer.ok and answer.sent_bytes < len(body):
            progress = f"{answer.sent_bytes} of {len(body)} bytes"
            raise TransferFailed(
                f"the server answered {answer.status} after {progress}", retryable=True
            )
        return answer

    async def get(self, target: Target, cookies: ChainCookies) -> Answer:
        """Read a page, whatever its status, and follow redirects to it.

        Raises:
            TransferFailed: there was no answer, or redirects lead where they may not, or on and on.
        """
        start = target
        for _ in range(self._settings.max_redirects + 1):
            answer = await self._ask(target, cookies)
            if not answer.redirect_url:
                return answer
            target = hop(start, answer.redirect_url)
        raise TransferFailed("the server redirects more often than is allowed")

    async def _ask(
        self,
        target: Target,
        cookies: ChainCookies | None,
        *options: Option,
        headers: tuple[str, ...] = (),
        body_bytes: int = 0,
    ) -> Answer:
        body = bytearray()

        async def ask(credentials: tuple[Option, ...]) -> Exchange:
            body.clear()
            # A server that will ask for credentials first may do so before a large body is sent;
            # otherwise Expect would cost a round trip, or a second with servers that ignore it.
            waits = NEGOTIATED in credentials and body_bytes > _WAITING_BODY_BYTES
            expect = "Expect: 100-continue" if waits else "Expect:"
            exchange = Exchange(
                target,
                (
                    (pycurl.PROTOCOLS, HTTP_PROTOCOLS),
                    (pycurl.TIMEOUT_MS, int(self._settings.upload_timeout_s * 1000)),
                    *credentials,
                    *options,
                    *header_options(*headers, expect, _cookie_line(cookies, target)),
                ),
                self._keeper(body),
            )
            await self._engine.run(exchange)
            return exchange

        exchange = await self._credentials.run(target, ask)
        if cookies is not None:
            cookies.take(target.url, exchange.header_values("set-cookie"))
        is_page, status = _is_page(exchange), exchange.status
        return Answer(
            status,
            bytes(body) if is_page else b"",
            _charset(exchange) if is_page else "",
            exchange.sent_bytes,
            target,
            exchange.redirect_url,
            trouble.of_status(status) if 200 <= status < 300 else refusal(exchange, body),
        )

    def _keeper(self, body: bytearray) -> Callable[[Exchange, bytes], None]:
        """Keep of a body what may be read of it: more of a page, which may have a form."""
        limit_bytes = 0

        def take(exchange: Exchange, chunk: bytes) -> None:
            nonlocal limit_bytes
            if not limit_bytes:  # asked once: a server may send many headers and many chunks
                is_page = _is_page(exchange)
                limit_bytes = self._settings.form_page_limit_bytes if is_page else WORDS_LIMIT_BYTES
            if len(body) < limit_bytes:
                body.extend(chunk[: limit_bytes - len(body)])

        return take


def refusal(exchange: Exchange, body: bytes | bytearray) -> TransferFailed:
    """Explain an answer that is no success, in its server's own words."""
    status, reason = exchange.status, exchange.reason
    words = ""
    if not exchange.header_values("content-encoding"):  # nobody asked for one
        media_type = exchange.header("content-type").partition(";")[0].strip().lower()
        said = trouble.status_name(status, reason)
        words = body_words(bytes(body), media_type, _charset(exchange), said, exchange.target)
    return trouble.of_status(status, exchange.retry_after_s, reason=reason, words=words)


def _is_page(exchange: Exchange) -> bool:
    return exchange.header("content-type").lower().startswith(_PAGE_TYPES)


def cookie_options(cookies: ChainCookies, target: Target) -> tuple[Option, ...]:
    """Make the option that gives a server its cookies back."""
    return header_options(_cookie_line(cookies, target))


def _cookie_line(cookies: ChainCookies | None, target: Target) -> str:
    value = cookies.header(target.url) if cookies else ""
    return f"Cookie: {value}" if value else ""


def hop(source: Target, url: str) -> Target:
    """Take a redirect apart; the source's credentials go along to its own origin only."""
    target = parse_target(url)
    if target.scheme not in ("http", "https"):
        raise trouble.forbidden("the server redirects to a scheme other than http and https")
    if target.same_origin(source) and not target.username:
        return replace(target, username=source.username, password=source.password)
    return target


def _charset(exchange: Exchange) -> str:
    header = Message()
    header["Content-Type"] = exchange.header("content-type")
    return header.get_content_charset("")

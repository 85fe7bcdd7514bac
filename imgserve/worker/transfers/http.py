"""http and https: GET with redirects, PUT without; POST is in post.py."""

from __future__ import annotations

import time
from http import HTTPStatus
from urllib.parse import urljoin

import pycurl

from imgserve.worker.transfers.content_encoding import ContentDecoder
from imgserve.worker.transfers.cookies import ChainCookies
from imgserve.worker.transfers.credentials import Credentials
from imgserve.worker.transfers.download import Inbox
from imgserve.worker.transfers.engine import Engine
from imgserve.worker.transfers.exchange import Exchange, Option
from imgserve.worker.transfers.parcel import Parcel
from imgserve.worker.transfers.post import FormPost
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.trouble import Kind, TransferFailed
from imgserve.worker.transfers.urls import Target
from imgserve.worker.transfers.web import HTTP_PROTOCOLS, Web, cookie_options, hop, refusal
from imgserve.worker.transfers.words import WORDS_LIMIT_BYTES

# With these the body is the whole source (RFC 9110, 15.3.1 and 15.3.4).
WHOLE = frozenset({200, 203})
# An error page this long is read to its end, which keeps the connection; a longer one is cut.
_ERROR_PAGE_LIMIT_BYTES = 64 * 1024


class HttpTransfer:
    """Fetch and upload over HTTP."""

    def __init__(self, settings: TransferSettings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._credentials = Credentials()
        self._web = Web(settings, engine, self._credentials)
        self._post = FormPost(settings, self._web)

    async def fetch(self, source: Target, inbox: Inbox) -> None:
        """GET a source into the inbox; 200 is success, and 203, its copy by a proxy.

        Redirects are followed here and not by curl, so that each hop passes every check that a
        client's own URL passes.

        Raises:
            TransferFailed: it could not be fetched.
        """
        deadline_s = time.monotonic() + self._settings.fetch_timeout_s
        target = source
        cookies = ChainCookies()
        for _ in range(self._settings.max_redirects + 1):
            exchange, page = await self._get(target, inbox, deadline_s, cookies)
            if exchange.status in WHOLE:
                return
            if not exchange.redirect_url:
                raise refusal(exchange, page)
            cookies.take(target.url, exchange.header_values("set-cookie"))
            target = hop(source, exchange.redirect_url)
        raise TransferFailed("the server redirects more often than is allowed")

    async def _get(
        self, target: Target, inbox: Inbox, deadline_s: float, cookies: ChainCookies
    ) -> tuple[Exchange, bytearray]:
        """Send one request; return it, and the body's beginning where that is no source."""
        page = bytearray()

        async def ask(credentials: tuple[Option, ...]) -> Exchange:
            page.clear()
            taker = _Taker(inbox, page)
            options: tuple[Option, ...] = (
                (pycurl.PROTOCOLS, HTTP_PROTOCOLS),
                (pycurl.TIMEOUT_MS, max(1, int((deadline_s - time.monotonic()) * 1000))),
                *credentials,
                *cookie_options(cookies, target),
            )
            exchange = Exchange(target, options, taker.take, inbox.limit_bytes)
            await self._engine.run(exchange)
            taker.finish()
            return exchange

        return await self._credentials.run(target, ask), page

    async def upload(self, parcel: Parcel) -> None:
        """PUT or POST a result; only 2xx is success, and no redirect is followed.

        Raises:
            TransferFailed: the destination did not take it.
        """
        if parcel.destination.method == "POST":
            await self._post.upload(parcel)
            return
        headers = (f"Content-Type: {parcel.content_type}",)
        answer = await self._web.send(parcel.target, "PUT", parcel.body, headers)
        if answer.ok:
            return
        failure = answer.failure_of_put()
        if failure.retryable and answer.is_of_nginx and await self._lacks_folder(parcel.target):
            # Nginx says 500 where others say 409; to try again would change nothing.
            failure.retryable = False
        raise failure

    async def _lacks_folder(self, target: Target) -> bool:
        """Ask for the folder that a file was to go to: 404 is the evidence that it is missing."""
        try:
            answer = await self._web.get(hop(target, urljoin(target.url, ".")), ChainCookies())
        except TransferFailed:
            return False
        return answer.status == HTTPStatus.NOT_FOUND


class _Taker:
    """Takes one answer's body: into the inbox, or its beginning into `page` where it is none."""

    def __init__(self, inbox: Inbox, page: bytearray) -> None:
        self._inbox = inbox
        self._page = page
        self._page_bytes = 0
        self._wanted: bool | None = None
        self._decoder: ContentDecoder | None = None

    def take(self, exchange: Exchange, chunk: bytes) -> None:
        if self._wanted is None:  # the status stands before the first byte of the body
            self._wanted = exchange.status in WHOLE
            if self._wanted and (codings := exchange.header_values("content-encoding")):
                self._decoder = ContentDecoder(codings, self._inbox.limit_bytes)
        if self._wanted:
            self._feed(chunk)
            return
        self._page_bytes += len(chunk)
        self._page.extend(chunk[: WORDS_LIMIT_BYTES - len(self._page)])
        if self._page_bytes > _ERROR_PAGE_LIMIT_BYTES:
            raise refusal(exchange, self._page)

    def finish(self) -> None:
        if self._decoder is not None:
            self._decoder.finish()

    def _feed(self, chunk: bytes) -> None:
        try:
            for piece in self._decoder.decode(chunk) if self._decoder else (chunk,):
                self._inbox.feed(piece)
        except TransferFailed as exc:
            self._inbox.is_too_large = exc.kind is Kind.TOO_LARGE
            raise

"""http and https: GET with redirects, PUT without; POST is in post.py."""

from __future__ import annotations

import time
from dataclasses import replace

import pycurl

from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.content_encoding import ContentDecoder
from imgserve.worker.transfers.download import Inbox
from imgserve.worker.transfers.engine import Engine
from imgserve.worker.transfers.exchange import Exchange, Option
from imgserve.worker.transfers.parcel import Parcel
from imgserve.worker.transfers.post import FormPost
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.trouble import Kind, TransferFailed
from imgserve.worker.transfers.urls import Target, parse_target
from imgserve.worker.transfers.web import HTTP_PROTOCOLS, Web

# With these the body is the whole source (RFC 9110, 15.3.1 and 15.3.4).
WHOLE = frozenset({200, 203})
# An error page this long is read to its end, which keeps the connection; a longer one is cut.
_ERROR_PAGE_LIMIT_BYTES = 64 * 1024


class HttpTransfer:
    """Fetch and upload over HTTP."""

    def __init__(self, settings: TransferSettings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._web = Web(settings, engine)
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
        for _ in range(self._settings.max_redirects + 1):
            exchange = await self._get(target, inbox, deadline_s - time.monotonic())
            if exchange.status in WHOLE:
                return
            if not exchange.redirect_url:
                raise trouble.of_status(exchange.status, exchange.retry_after_s)
            target = _hop(source, exchange.redirect_url)
        raise TransferFailed("the server redirects more often than is allowed")

    async def _get(self, target: Target, inbox: Inbox, timeout_s: float) -> Exchange:
        discarded_bytes = 0
        wanted: bool | None = None
        decoder: ContentDecoder | None = None

        def take(exchange: Exchange, chunk: bytes) -> None:
            nonlocal discarded_bytes, wanted, decoder
            if wanted is None:  # the status stands before the first byte of the body
                wanted = exchange.status in WHOLE
                if wanted and (codings := exchange.header_values("content-encoding")):
                    decoder = ContentDecoder(codings, inbox.limit_bytes)
            if wanted:
                try:
                    for piece in decoder.decode(chunk) if decoder else (chunk,):
                        inbox.feed(piece)
                except TransferFailed as exc:
                    inbox.is_too_large = exc.kind is Kind.TOO_LARGE
                    raise
                return
            discarded_bytes += len(chunk)
            if discarded_bytes > _ERROR_PAGE_LIMIT_BYTES:
                raise trouble.of_status(exchange.status)

        options: tuple[Option, ...] = (
            (pycurl.PROTOCOLS, HTTP_PROTOCOLS),
            (pycurl.TIMEOUT_MS, max(1, int(timeout_s * 1000))),
        )
        exchange = Exchange(target, options, take, inbox.limit_bytes)
        await self._engine.run(exchange)
        if decoder is not None:
            decoder.finish()
        return exchange

    async def upload(self, parcel: Parcel) -> None:
        """PUT or POST a result; only 2xx is success, and no redirect is followed.

        Raises:
            TransferFailed: the destination did not take it.
        """
        if parcel.destination.method == "POST":
            await self._post.upload(parcel)
            return
        answer = await self._web.send(parcel.target, "PUT", parcel.body, parcel.content_type)
        if not answer.ok:
            raise answer.failure()


def _hop(source: Target, url: str) -> Target:
    """Take a redirect apart; the source's credentials go along to its own origin only."""
    target = parse_target(url)
    if target.scheme not in ("http", "https"):
        raise trouble.forbidden("the server redirects to a scheme other than http and https")
    if target.same_origin(source) and not target.username:
        return replace(target, username=source.username, password=source.password)
    return target

"""http and https: GET with redirects, PUT without; POST is in post.py."""

from __future__ import annotations

import pycurl

from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.download import Inbox
from imgserve.worker.transfers.engine import Engine
from imgserve.worker.transfers.exchange import Exchange, Option
from imgserve.worker.transfers.parcel import Parcel
from imgserve.worker.transfers.post import FormPost
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.urls import Target
from imgserve.worker.transfers.web import HTTP_PROTOCOLS, Web

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
        """GET a source into the inbox; only 200 is success.

        Raises:
            TransferFailed: it could not be fetched.
        """
        discarded_bytes = 0

        def take(chunk: bytes) -> None:
            nonlocal discarded_bytes
            if exchange.status == 200:
                inbox.feed(chunk)
                return
            discarded_bytes += len(chunk)
            if discarded_bytes > _ERROR_PAGE_LIMIT_BYTES:
                raise trouble.of_status(exchange.status)

        options: tuple[Option, ...] = (
            (pycurl.PROTOCOLS, HTTP_PROTOCOLS),
            (pycurl.REDIR_PROTOCOLS, HTTP_PROTOCOLS),
            (pycurl.FOLLOWLOCATION, 1),
            (pycurl.MAXREDIRS, self._settings.max_redirects),
            (pycurl.TIMEOUT_MS, int(self._settings.fetch_timeout_s * 1000)),
        )
        exchange = Exchange(source, options, take, inbox.limit_bytes)
        await self._engine.run(exchange)
        if exchange.status != 200:
            raise trouble.of_status(exchange.status, exchange.retry_after_s)

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

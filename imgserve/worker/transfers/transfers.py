"""The transfers of one worker: a table of schemes over one curl engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from imgserve.request import Destination
from imgserve.worker.transfers import trouble
from imgserve.worker.transfers.download import Download, Inbox
from imgserve.worker.transfers.engine import Engine
from imgserve.worker.transfers.file import FileTransfer
from imgserve.worker.transfers.ftp import FtpTransfer
from imgserve.worker.transfers.http import HttpTransfer
from imgserve.worker.transfers.parcel import Parcel, UploadedBy, anonymous
from imgserve.worker.transfers.settings import TransferSettings
from imgserve.worker.transfers.threads import CurlThreads
from imgserve.worker.transfers.trouble import TransferFailed
from imgserve.worker.transfers.urls import Target, parse_target


class Scheme(Protocol):
    """What a transfer scheme does; both raise TransferFailed."""

    async def fetch(self, source: Target, inbox: Inbox) -> None:
        """Feed the whole source into the inbox."""

    async def upload(self, parcel: Parcel) -> None:
        """Put the parcel at its destination, replacing what is there."""


class Transfers:
    """Every download and upload of a worker; an async context manager.

    Args:
        settings: limits and permissions.
        may_send: asked, also in threads, before a result becomes visible.
    """

    def __init__(
        self, settings: TransferSettings, *, may_send: Callable[[], bool] = lambda: True
    ) -> None:
        self._settings = settings
        self._exits = AsyncExitStack()
        self._engine = Engine(settings)
        self._threads = CurlThreads(settings, may_send)
        http = HttpTransfer(settings, self._engine)
        ftp = FtpTransfer(settings, self._threads)
        self._schemes: dict[str, Scheme] = {
            "http": http,
            "https": http,
            "ftp": ftp,
            "ftps": ftp,
            "file": FileTransfer(settings, may_send),
        }

    async def __aenter__(self) -> Self:
        await self._exits.enter_async_context(self._engine)
        self._exits.enter_context(self._threads)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exits.aclose()

    def fetch(self, url: str, *, limit_bytes: int | None = None) -> Download:
        """Prepare the download of a source; it starts at `async with`.

        Args:
            url: an http, https, ftp, ftps or file URL.
            limit_bytes: a limit below the configured one, for sources that must be smaller.
        """
        most = self._settings.source_limit_bytes
        inbox = Inbox(most if limit_bytes is None else min(most, limit_bytes))
        return Download(inbox, partial(self._fetch, url, inbox))

    async def _fetch(self, url: str, inbox: Inbox) -> None:
        source = parse_target(url)
        await self._scheme(source).fetch(source, inbox)

    async def upload(
        self,
        destination: Destination,
        body: bytes,
        *,
        content_type: str,
        by: UploadedBy | None = None,
    ) -> None:
        """Put a result at its destination, replacing what is there.

        Args:
            destination: where to, every tag replaced.
            body: the whole result.
            content_type: its media type, for HTTP.
            by: the attempt that it is part of; None: of no job.

        Raises:
            UploadFailed: the destination did not take it.
            DestinationForbidden: policy refuses its scheme, network or file root.
        """
        try:
            target = parse_target(destination.url)
            scheme = self._scheme(target)
            await scheme.upload(Parcel(target, destination, content_type, body, by or anonymous()))
        except TransferFailed as failure:
            raise trouble.destination_error(failure) from (failure.__cause__ or failure)

    def _scheme(self, target: Target) -> Scheme:
        scheme = self._schemes.get(target.scheme)
        if scheme is None:
            allowed = ", ".join(self._schemes)
            raise trouble.forbidden(f"the scheme {target.scheme} is none of {allowed}")
        return scheme

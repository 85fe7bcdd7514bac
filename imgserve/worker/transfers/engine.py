"""The curl engine: one multi handle on the event loop, a pool of easy handles, one cache."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Self

import pycurl

from imgserve.worker.transfers.exchange import Exchange, base_options
from imgserve.worker.transfers.settings import TransferSettings

# Asked only after curl failed to resolve a name, to learn whether trying again is any use.
_RESOLVER_TIMEOUT_S = 5.0


class Engine:
    """Runs exchanges on the event loop; connections are kept for later ones."""

    def __init__(self, settings: TransferSettings) -> None:
        self._settings = settings
        self._base = base_options(settings)
        self._idle: list[pycurl.Curl] = []
        self._multi: pycurl.AsyncCurlMulti | None = None

    async def __aenter__(self) -> Self:
        self._multi = pycurl.AsyncCurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, self._settings.connections_kept)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, self._settings.connections_per_host)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The multi first: it lets go of handles that still run, and then they may be closed.
        if self._multi is not None:
            await self._multi.aclose()
            self._multi = None
        while self._idle:
            self._idle.pop().close()

    async def run(self, exchange: Exchange) -> None:
        """Run one exchange to its end; cancelling ends it at once.

        Raises:
            TransferFailed: curl gave it up, or `take` stopped it.
        """
        if self._multi is None:
            raise RuntimeError("the engine is not open")
        curl = self._idle.pop() if self._idle else pycurl.Curl()
        try:
            exchange.prepare(curl, self._base)
            try:
                await self._multi.perform(curl)
                exchange.finish(curl)
            except pycurl.error as exc:
                exchange.finish(curl)
                failure = exchange.explain(curl, exc)
                if exc.args[0] == pycurl.E_COULDNT_RESOLVE_HOST:
                    failure.retryable = await _resolver_has_trouble(exchange.target.host)
                raise failure from exc
        finally:
            self._give_back(curl)

    def _give_back(self, curl: pycurl.Curl) -> None:
        if self._multi is None or len(self._idle) >= self._settings.connections_kept:
            curl.close()
            return
        # At once, not at the next use: the options hold on to bodies and callbacks.
        curl.reset()
        self._idle.append(curl)


async def _resolver_has_trouble(host: str) -> bool:
    """Tell a name that does not exist from a resolver that gave no answer."""
    try:
        async with asyncio.timeout(_RESOLVER_TIMEOUT_S):
            await asyncio.get_running_loop().getaddrinfo(host, None)
    except socket.gaierror as exc:
        return exc.errno == socket.EAI_AGAIN
    except (OSError, UnicodeError):
        return False
    # It took too long, or it works by now.
    return True

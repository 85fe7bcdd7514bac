"""How a URL's user name and password reach an HTTP server: as Basic or as Digest (RFC 7617, 7616).

Basic shows a password to whoever listens. So over http it is sent only where a server offers
nothing better, as browsers do; over https it goes along at once, which saves a round trip.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import pycurl

from imgserve.worker.transfers.exchange import Exchange, Option
from imgserve.worker.transfers.urls import Target

# Curl asks without credentials first, and answers with the best of these that is offered.
NEGOTIATED: Final[Option] = (pycurl.HTTPAUTH, pycurl.HTTPAUTH_BASIC | pycurl.HTTPAUTH_DIGEST)

_REMEMBERED: Final = 256
# How servers that say 401 to nobody hide what strangers may not see.
_HIDING: Final = frozenset({401, 403, 404})


class Credentials:
    """Sends requests with credentials, and remembers what the origins have asked for."""

    def __init__(self) -> None:
        # Whether Basic goes along at once; an origin that has offered Digest stays at False.
        self._known: OrderedDict[tuple[str, str], bool] = OrderedDict()

    async def run(
        self, target: Target, ask: Callable[[tuple[Option, ...]], Awaitable[Exchange]]
    ) -> Exchange:
        """Send a request, and once more where its server asks for credentials in another way.

        Args:
            target: whose credentials count.
            ask: sends it with these options more.
        """
        if not (target.username or target.password):
            return await ask(())
        at_once = self._known.get(_origin(target), target.scheme == "https")
        exchange = await ask(() if at_once else (NEGOTIATED,))
        self._learn(target, exchange.auth_offered)
        if at_once and exchange.status == 401 and exchange.auth_offered & pycurl.HTTPAUTH_DIGEST:
            return await ask((NEGOTIATED,))
        if not at_once and exchange.status in _HIDING and not exchange.auth_offered:
            if _origin(target) in self._known:  # it has asked before, so it means what it says
                return exchange
            return await ask(())
        return exchange

    def _learn(self, target: Target, offered: int) -> None:
        if not offered:
            return
        origin = _origin(target)
        has_digest = bool(offered & pycurl.HTTPAUTH_DIGEST)
        self._known[origin] = self._known.get(origin, True) and not has_digest
        self._known.move_to_end(origin)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _origin(target: Target) -> tuple[str, str]:
    return target.scheme, target.endpoint

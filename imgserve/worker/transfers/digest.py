"""HTTP Digest (RFC 7616), for servers that ask for it: curl answers, this knows whom."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

import pycurl

from imgserve.worker.transfers.exchange import Exchange, Option
from imgserve.worker.transfers.urls import Target

_REMEMBERED: Final = 256
_OFFER = re.compile(r"(?:\A|,)\s*digest\s", re.IGNORECASE)


class DigestOrigins:
    """The origins that asked for Digest, so that each is tried with Basic once only."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def options(self, target: Target) -> tuple[Option, ...]:
        """Return what a request to a target needs beyond its user name and password."""
        if not target.username or _origin(target) not in self._known:
            return ()
        return ((pycurl.HTTPAUTH, pycurl.HTTPAUTH_DIGEST),)

    def asks_anew(self, exchange: Exchange) -> bool:
        """Tell whether to send the same request again: its server has just asked for Digest."""
        target = exchange.target
        if exchange.status != 401 or not target.username or self.options(target):
            return False
        if not any(map(_OFFER.search, exchange.header_values("www-authenticate"))):
            return False
        self._known[_origin(target)] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return True


def _origin(target: Target) -> tuple[str, str]:
    return target.scheme, target.endpoint

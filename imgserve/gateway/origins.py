"""Requests that another site's page makes a visitor's browser send, and how they are refused.

A browser sends some requests to any address without asking first: forms, and scripts with simple
headers. It says where they come from (Sec-Fetch-Site, Origin), and by which name it found the
server (Host), which a page of another site can make lead to loopback (DNS rebinding). Other
clients say none of this, and nothing is asked of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

OWN_SITES: Final = frozenset({"same-origin", "none"})
"""Sec-Fetch-Site of a page of this service, and of an address that the user typed."""

ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class HostNames:
    """The names that requests may call the service by.

    Args:
        named: in lower case; `*` is any.
        loopback: localhost and loopback addresses, too, and nothing else if none is named.
    """

    named: frozenset[str]
    loopback: bool

    @classmethod
    def of(cls, listening: str, named: tuple[str, ...]) -> Self:
        """Return the names of a service that listens on a host."""
        return cls(frozenset(name.lower() for name in named), is_loopback(listening))

    def include(self, host: str) -> bool:
        """Tell whether a Host header names the service."""
        if ANY in self.named or not (self.loopback or self.named):
            return True
        name = _name_in(f"http://{host}")
        return name in self.named or (self.loopback and is_loopback(name))


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is this machine's own; no resolver is asked."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def refusal(request: HTTPServerRequest, names: HostNames) -> tuple[int, str] | None:
    """Return status and sentence for a request that is not carried out, or None."""
    host = request.headers.get("Host", "")
    if host and not names.include(host):
        return 421, (
            "this service is not called by the name in the Host header; "
            "`--host-name NAME` permits a name, `--host-name '*'` any"
        )
    if _is_foreign(request, host):
        return 403, "the request comes from a page of another site"
    return None


def _is_foreign(request: HTTPServerRequest, host: str) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in OWN_SITES
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    # Scheme and port may be a proxy's; another name is another site.
    return not origin.startswith(("http://", "https://")) or _name_in(origin) != _name_in(
        f"http://{host}"
    )


def _name_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""

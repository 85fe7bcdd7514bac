"""URLs in one canonical form: what policy judges is what a transfer uses.

The gateway holds a token's patterns against a `Target`, and a worker connects to the same `Target`,
so that no spelling of a URL means one place to the judge and another to the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit

import idna


class MalformedUrl(ValueError):
    """Raised when a URL cannot be taken apart, or names no host where it must."""


DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990}

# RFC 3986's pchar and "/", and "%" so that what is encoded already stays as it is.
_PATH_SAFE = "/%:@!$&'()*+,;=~-._"
_QUERY_SAFE = _PATH_SAFE + "?[]"
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# WHATWG URL, "forbidden host code point": what ends or changes a host for one reader or another.
_NO_HOST = re.compile(r"[\x00-\x20\x7f#%/:<>?@\[\\\]^|]")

# To the last @ of the authority, which ends where _SHOWN's does.
_USER_INFO = re.compile(r"\A([a-z][a-z0-9+.-]*://)[^/?#]*@", re.IGNORECASE)

_SHOWN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:[^/?#]*@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[^\x00-\x20\x7f/?#@:\[\]\\]*)"
    r"(?P<port>(?::[0-9]{1,5})?)"
    r"(?P<path>(?:/[^\x00-\x1f\x7f?#]*)?)"
    r"(?:[?#].*)?",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart: `url` goes to curl and holds no credentials."""

    url: str
    scheme: str
    host: str
    port: int | None
    path: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def endpoint(self) -> str:
        """The peer as people write it."""
        return f"{self.host}:{self.port or DEFAULT_PORTS.get(self.scheme, '?')}"

    @property
    def path_bytes(self) -> bytes:
        """The path with its percent-encoding undone."""
        return unquote_to_bytes(self.path)

    def same_origin(self, other: Target) -> bool:
        """Whether credentials for one may be shown to the other."""
        return (self.scheme, self.endpoint) == (other.scheme, other.endpoint)


@lru_cache(maxsize=256)
def parse_target(url: str) -> Target:
    """Take a URL apart and percent-encode what must be.

    Non-ASCII text becomes UTF-8, a host name Punycode; existing %XX stay as they are. In `ftp` and
    `file` a question mark belongs to the name.

    Raises:
        MalformedUrl: it cannot be taken apart.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        host = _host(parts)
    except ValueError as exc:  # UnicodeError of the idna codec is one
        raise MalformedUrl("the URL is malformed") from exc
    userinfo = parts.netloc.rpartition("@")[0]
    username, _, password = userinfo.partition(":")
    username, password = unquote(username), unquote(password)
    if _CONTROL.search(username + password) or not parts.scheme:
        raise MalformedUrl("the URL is malformed")
    if not host and parts.scheme in DEFAULT_PORTS:
        raise MalformedUrl("the URL is malformed")
    path, query = parts.path, parts.query
    if parts.scheme not in ("http", "https") and query:
        path, query = f"{path}?{query}", ""
    path = _encode(path, _PATH_SAFE)
    whole = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "") + path
    if query:
        whole += "?" + _encode(query, _QUERY_SAFE)
    return Target(whole, parts.scheme, host, port, path, username, password)


def redact(url: str) -> str:
    """Return a URL without user info, query and fragment: fit for logs and messages.

    By a pattern: taking a URL apart costs ten times as much, twice a job.
    """
    match = _SHOWN.fullmatch(url)
    if match is None or not (match["host"] or match["scheme"].lower() == "file"):
        return "(malformed URL)"
    return f"{match['scheme'].lower()}://{match['host']}{match['port']}{match['path']}"


def without_user_info(url: str) -> str:
    """Return a URL without its user name and password; all else stays as it is written."""
    return _USER_INFO.sub(r"\1", url, count=1)


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        return f"[{host}]"
    # Curl undoes percent-encoding in a host too: what is judged must be what is connected to.
    host = unquote(host, errors="strict").lower()
    if not host.isascii():
        host = _ascii_host(host)
    if _NO_HOST.search(host):
        raise ValueError("the host holds characters that no host name has")
    return host


def _ascii_host(host: str) -> str:
    """Write a name as browsers ask for it (UTS 46, not transitional): faß.de is not fass.de.

    Raises: ValueError when it holds what no host name has.
    """
    mapped = idna.uts46_remap(host, std3_rules=False, transitional=False)
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
        for label in mapped.split(".")
    )


def _encode(text: str, safe: str) -> str:
    return _STRAY_PERCENT.sub("%25", quote(text, safe=safe))

"""Where a token's results may go: patterns of URLs, compared part by part.

A pattern is `scheme://host[:port]/path`: the scheme, host and port are as written (`*.example.com`
is any host beneath), the path begins with the pattern's, whole segments only. Text is never
compared with text: `https://cdn.example.com` must not permit `https://cdn.example.com.evil.net`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, unquote, urlsplit

from imgserve.urls import MalformedUrl, parse_target

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ftp": 21, "ftps": 990, "file": 0}
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]|\*")

# An encoded slash: one server takes it for a folder's end, another for a part of a name.
_HIDDEN_SLASH = re.compile("%(25)*2f", re.IGNORECASE)
# UTF-8 has no such bytes: decoders that are too lenient read a dot or a slash (RFC 3629, 10).
_OVERLONG = re.compile("%(25)*c[01]%", re.IGNORECASE)
_READINGS_LIMIT: Final = 4
_PLAIN_HOST = re.compile(r"[a-z0-9_.:-]+")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern, taken apart; `host` of `*` is any, with `*.` before it any beneath."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pattern.

        Raises: ValueError when it is none, saying why.
        """
        parts = urlsplit(text)
        host = parts.netloc if parts.scheme == "file" else parts.netloc.partition("@")[0]
        bare = re.sub(r":\d+\Z", "", host)
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError(f"{text!r} does not begin with {', '.join(DEFAULT_PORTS)} and ://")
        if (parts.scheme == "file") != (not host) or (host and not _HOST.fullmatch(bare)):
            raise ValueError(
                f"{text!r} is not scheme://host/path with a host such as *.example.com"
            )
        if parts.query or parts.fragment or "@" in parts.netloc or "*" in parts.path:
            raise ValueError(f"{text!r} has more than scheme, host, port and the path's beginning")
        if _climbs(unquote(parts.path)):
            raise ValueError(f"{text!r} has . or .. in its path")
        return cls(parts.scheme, bare.strip("[]").lower(), _port(parts), unquote(parts.path))

    def permits(self, url: str) -> bool:
        """Tell whether a destination is within the pattern; one that cannot be judged is not."""
        try:
            target = parse_target(url)
        except MalformedUrl:
            return False
        host, path = target.host.strip("[]"), unquote(target.path)
        port = DEFAULT_PORTS.get(target.scheme, 0) if target.port is None else target.port
        if target.scheme == "file":
            host = ""  # localhost or nothing: the request's checks refuse all else
        elif not _PLAIN_HOST.fullmatch(host):
            return False
        if _HIDDEN_SLASH.search(target.path) or _OVERLONG.search(target.path):
            return False
        if not _stays(path):
            return False
        return (
            (target.scheme, port) == (self.scheme, self.port)
            and self._permits_host(host)
            and self._permits_path(path)
            and not (self.scheme in ("ftp", "ftps") and self._leaves_ftp(path))
        )

    def _permits_host(self, host: str) -> bool:
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1
        return host == self.host

    def _permits_path(self, path: str) -> bool:
        root = self.path.rstrip("/")
        return path == root or path.startswith(f"{root}/")

    def _leaves_ftp(self, path: str) -> bool:
        """Tell whether an FTP server goes elsewhere than a path says: to / or to a home.

        Each segment is a CWD of its own. An empty first one is CWD / (RFC 1738, 3.2.2), and
        servers such as ProFTPD expand a tilde at the beginning of any.
        """
        rest = path[len(self.path.rstrip("/")) :]
        return "/~" in rest or (path.startswith("//") and not self.path.startswith("//"))


def _port(parts: SplitResult) -> int:
    return DEFAULT_PORTS.get(parts.scheme, 0) if parts.port is None else parts.port


def _stays(path: str) -> bool:
    """Tell whether no reading of a path climbs; one that has too many readings is not trusted."""
    for count, reading in enumerate(_readings(path)):
        if count == _READINGS_LIMIT or _climbs(reading):
            return False
    return True


def _readings(path: str) -> Iterator[str]:
    """Yield a path as servers may read it: decoded again, full-width letters made plain."""
    while True:
        yield path
        again = unicodedata.normalize("NFKC", unquote(path))
        if again == path:
            return
        path = again


def _climbs(path: str) -> bool:
    # Servlet containers cut a segment at its first semicolon; Windows drops dots and spaces at a
    # name's end.
    segments = [part.partition(";")[0] for part in path.replace("\\", "/").split("/")]
    return any("." in segment and not segment.strip(". ") for segment in segments)

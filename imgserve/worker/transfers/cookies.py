"""Cookies within one chain of requests: set by a redirect or a form's page, and never kept."""

from __future__ import annotations

from email.message import Message
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, cast
from urllib.request import Request

# Honest sites set a handful; RFC 6265, 6.1, asks for 50 of 4096 bytes for each domain.
_COOKIES_LIMIT: Final = 50
_COOKIE_LIMIT_CHARS: Final = 4096


class ChainCookies:
    """What the servers of one chain have set, given back to those whose it is."""

    def __init__(self) -> None:
        self._jar: CookieJar | None = None

    def take(self, url: str, values: list[str]) -> None:
        """Keep cookies.

        Args:
            url: of the request that they answer.
            values: of its Set-Cookie headers.
        """
        values = [value for value in values if len(value) <= _COOKIE_LIMIT_CHARS]
        if not values:
            return
        if self._jar is None:
            policy = DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNoDots)
            self._jar = CookieJar(policy)
        room = _COOKIES_LIMIT - len(self._jar)
        self._jar.extract_cookies(_Response(values[: max(room, 0)]), Request(url))  # type: ignore[arg-type]  # noqa: S310 (nothing is opened)

    def header(self, url: str) -> str:
        """Return the Cookie header of a request, or nothing."""
        if self._jar is None:
            return ""
        request = Request(url)  # noqa: S310 (nothing is opened)
        self._jar.add_cookie_header(request)
        return cast("str", request.get_header("Cookie", ""))

    def __bool__(self) -> bool:
        return self._jar is not None and len(self._jar) > 0


class _Response:
    """As much of a response as the jar reads."""

    def __init__(self, values: list[str]) -> None:
        self._headers = Message()
        for value in values:
            self._headers["Set-Cookie"] = value

    def info(self) -> Message:
        return self._headers

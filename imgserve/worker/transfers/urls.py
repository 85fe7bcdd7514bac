"""The canonical form of URLs, its errors translated to those of transfers."""

from __future__ import annotations

from imgserve import urls
from imgserve.urls import DEFAULT_PORTS, Target, redact
from imgserve.worker.transfers.trouble import TransferFailed

__all__ = ["DEFAULT_PORTS", "Target", "parse_target", "redact"]


def parse_target(url: str) -> Target:
    """Take a URL apart, as `imgserve.urls.parse_target` does.

    Raises:
        TransferFailed: the URL is malformed.
    """
    try:
        return urls.parse_target(url)
    except urls.MalformedUrl as exc:
        raise TransferFailed(str(exc)) from exc

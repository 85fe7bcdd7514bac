"""The HTTP server's edge: how many connections there may be, and TLS."""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path
from typing import Final

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from imgserve.errors import ConfigError

COMPLAIN_EVERY_S: Final = 5.0
log = logging.getLogger(__name__)


class BoundedServer(HTTPServer):
    """An HTTP server that closes what it has no room for at once.

    Without a bound, idle connections use up the descriptors, and then nobody gets in and nothing
    goes out to the broker either.
    """

    connection_limit = 10_000
    _turned_away = 0
    _complained_s = float("-inf")

    def handle_stream(self, stream: IOStream, address: tuple[str, ...]) -> None:
        """Serve a connection, or close it."""
        if len(self._connections) < self.connection_limit:
            super().handle_stream(stream, address)
            return
        stream.close()
        self._turned_away += 1
        if time.monotonic() - self._complained_s >= COMPLAIN_EVERY_S:
            self._complained_s = time.monotonic()
            log.warning(
                "%d connections are open (http_connection_limit); %d turned away so far",
                self.connection_limit, self._turned_away,
            )  # fmt: skip


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return the context of a TLS server; None without a certificate.

    Raises: ConfigError when the files cannot be used.
    """
    if certificate is None:
        if key is not None:
            raise ConfigError(f"tls_key = {str(key)!r}: there is no tls_cert to go with it")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An empty password: a key that is locked must fail, not ask at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise ConfigError(f"tls_cert = {str(certificate)!r}, tls_key: {exc}") from exc
    return context

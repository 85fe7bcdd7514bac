"""Listening sockets: bind them with a clear error, and ask what answers on them."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from imgserve.commands.exit_codes import CommandFailed, ExitCode

BACKLOG: Final = 1024
"""Connections that wait while a gateway is started again: a second's worth of a busy service."""

_PROBE_TIMEOUT_S: Final = 1.0


def listen(host: str, port: int, flag: str) -> socket.socket:
    """Bind and listen.

    Raises: CommandFailed that names the flag to change when the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = found[0][0], found[0][4]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as exc:
        raise _unbindable(exc, host, port, flag) from exc


def probe(host: str, port: int, flag: str) -> None:
    """Check that a port which another process will bind is free now.

    Raises: CommandFailed when it is not.
    """
    listen(host, port, flag).close()


def address_of(listener: socket.socket) -> tuple[str, int]:
    """Return the address and port that a socket is bound to."""
    host, port = listener.getsockname()[:2]
    return str(host), int(port)


def url_of(host: str, port: int, *, tls: bool = False) -> str:
    """Return the URL of an HTTP server on this address."""
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine alone."""
    return ipaddress.ip_address(host).is_loopback


def reachable(host: str) -> str:
    """Return an address to reach a socket bound to `host` from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)


async def http_status(url: str, path: str) -> int:
    """Return the status of a GET to a server of this machine, or 0 without answer in a second."""
    parts = urlsplit(url)
    tls = _unverified() if parts.scheme == "https" else None
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            host = reachable(parts.hostname or "")
            reader, writer = await asyncio.open_connection(host, parts.port, ssl=tls)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                words = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):  # ValueError: a first line without an end
        return 0
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _unverified() -> ssl.SSLContext:
    """The certificate names the service as others call it, not this machine's own address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _unbindable(exc: OSError, host: str, port: int, flag: str) -> CommandFailed:
    if exc.errno == errno.EADDRINUSE:
        return CommandFailed(
            f"port {port} on {host} is taken by another program; choose another with {flag} "
            "(0: any free one)",
            ExitCode.PORT_TAKEN,
        )
    if exc.errno == errno.EACCES:
        return CommandFailed(
            f"port {port} needs root or CAP_NET_BIND_SERVICE; choose one from 1024 up with {flag}",
            ExitCode.NO_PERMISSION,
        )
    what = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc)
    return CommandFailed(f"cannot listen on {host} port {port}: {what}", ExitCode.PORT_TAKEN)

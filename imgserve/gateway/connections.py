"""The HTTP server's edge: how many connections there may be, who is cut off, and TLS."""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import logging
import socket
import ssl
import struct
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection
from tornado.iostream import IOStream

from imgserve.errors import ConfigError

COMPLAIN_EVERY_S: Final = 5.0

RESERVE_SHARE: Final = 20
"""One connection of so many is kept for probes and for who has a token."""

RESERVED_HEAD_S: Final = 5.0
"""How long a reserved connection may take to show what it is for."""

SWEEP_EVERY_S: Final = 1.0

SLOWEST_BYTES_S: Final = 1000
"""Answers are small: a client slower than a modem of 9600 baud reads none of them in earnest."""

_SIOCOUTQ: Final = 0x5411
"""linux/sockios.h (TIOCOUTQ): bytes that were sent and that the peer has not acknowledged."""

_BYTES_ACKED: Final = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` in linux/tcp.h's struct tcp_info."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Peer:
    """One open connection.

    Args:
        origin: whom its address stands for.
        reserved: it came when all but the reserve was taken.
        used: a request has come over it.
        since_s, acked, queued: when the bytes that the peer has to take were seen first, how many
            it had taken by then, and how many they were; queued 0: it has taken everything.
    """

    origin: str
    reserved: bool
    used: bool = False
    since_s: float = 0.0
    acked: int = 0
    queued: int = 0


class BoundedServer(HTTPServer):
    """An HTTP server that has room for everyone: it closes what takes too much of it.

    Without bounds, connections use up the descriptors, and then nobody gets in and nothing goes
    out to the broker either. Without a bound by address, one peer has them all.
    """

    connection_limit = 10_000
    address_limit = 10_000
    write_timeout_s = 30.0
    reserve = 0

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Tornado's constructor."""
        super().initialize(*args, **kwargs)
        self._peers: dict[IOStream, _Peer] = {}
        self._by_origin: Counter[str] = Counter()
        self._turned_away = 0
        self._complained_s = float("-inf")

    def limit(self, connections: int, by_address: int | None, write_timeout_s: float) -> None:
        """Set the bounds.

        Args:
            connections: at most, in all.
            by_address: at most from one address; None: a quarter of all.
            write_timeout_s: how long a peer may take to receive what was sent.
        """
        self.connection_limit = connections
        self.address_limit = by_address or max(1, connections // 4)
        self.reserve = connections // RESERVE_SHARE
        self.write_timeout_s = write_timeout_s

    def handle_stream(self, stream: IOStream, address: tuple[str, ...]) -> None:
        """Serve a connection, or close it."""
        origin = origin_of(address)
        open_now = len(self._peers)
        if self._by_origin[origin] >= self.address_limit:
            self._turn_away(stream, f"{origin} has {self.address_limit} (http_address_limit)")
            return
        if open_now >= self.connection_limit:
            self._turn_away(stream, f"{open_now} are open (http_connection_limit)")
            return
        peer = _Peer(origin, reserved=open_now >= self.connection_limit - self.reserve)
        self._peers[stream] = peer
        self._by_origin[origin] += 1
        super().handle_stream(stream, address)
        if peer.reserved:
            loop = asyncio.get_running_loop()
            loop.call_later(RESERVED_HEAD_S, self._close_if_idle, stream, peer)

    def on_close(self, server_conn: object) -> None:
        """Forget a connection that has ended."""
        peer = self._peers.pop(cast("HTTP1ServerConnection", server_conn).stream, None)
        if peer is not None:
            self._by_origin[peer.origin] -= 1
            if not self._by_origin[peer.origin]:
                del self._by_origin[peer.origin]
        super().on_close(server_conn)

    def is_reserved(self, connection: HTTPConnection | None) -> bool:
        """Tell whether a request came over the reserve; its connection has shown its use now."""
        peer = self._peers.get(getattr(connection, "stream", None))  # type: ignore[arg-type]
        if peer is None or not peer.reserved:
            return False
        peer.used = True
        return True

    async def sweep(self) -> None:
        """Close, for ever, the connections of peers that do not receive what was sent to them."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now_s = time.monotonic()
            stuck = [
                stream for stream, peer in self._peers.items() if self._stuck(stream, peer, now_s)
            ]
            for stream in stuck:
                _reset(stream)
            if stuck:
                self._complain(f"{len(stuck)} did not read their answers (http_write_timeout_s)")

    def _stuck(self, stream: IOStream, peer: _Peer, now_s: float) -> bool:
        """Whether bytes have waited for the peer too long, and it takes them too slowly."""
        if stream.closed():  # the server forgets it some turns of the loop later
            return False
        connection = stream.socket
        try:
            queued = struct.unpack("i", fcntl.ioctl(connection, _SIOCOUTQ, bytes(4)))[0]
            if not queued:
                peer.queued = 0
                return False
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        except (OSError, ValueError):
            return False  # it has just been closed
        acked = _BYTES_ACKED.unpack(info)[0]
        taken = acked - peer.acked
        if not peer.queued or taken >= peer.queued:
            peer.since_s, peer.acked, peer.queued = now_s, acked, queued
            return False
        waited_s = now_s - peer.since_s
        return waited_s >= self.write_timeout_s and taken < SLOWEST_BYTES_S * waited_s

    def _close_if_idle(self, stream: IOStream, peer: _Peer) -> None:
        if not peer.used:
            stream.close()

    def _turn_away(self, stream: IOStream, why: str) -> None:
        stream.close()
        self._turned_away += 1
        self._complain(f"{why}; {self._turned_away} were turned away so far")

    def _complain(self, what: str) -> None:
        if time.monotonic() - self._complained_s >= COMPLAIN_EVERY_S:
            self._complained_s = time.monotonic()
            log.warning("connections: %s", what)


def origin_of(address: tuple[str, ...]) -> str:
    """Return whom an address stands for: for IPv4 itself, for IPv6 the /64 of one customer."""
    try:
        ip = ipaddress.ip_address(address[0].partition("%")[0])
    except (ValueError, IndexError):
        return "?"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))


def _reset(stream: IOStream) -> None:
    """Close with RST: the kernel would go on for minutes to offer the bytes that nobody takes."""
    try:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (OSError, AttributeError):
        pass  # it has just been closed
    stream.close()


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

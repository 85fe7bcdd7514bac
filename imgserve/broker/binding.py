"""The broker's bound sockets and their endpoints."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import zmq

from imgserve.broker.guard import Guard, KeyFolder
from imgserve.config import Settings
from imgserve.errors import ConfigError
from imgserve.protocol.codec import INBOX_FRAME_LIMIT_BYTES, topic_prefix
from imgserve.protocol.connection import Connection
from imgserve.protocol.keys import Domain
from imgserve.protocol.sockets import new_socket, readable, secure_server

EVENTS_HIGH_WATER_MARK: Final = 100_000
"""Events kept for a slow listener before some are dropped (and noticed, and replayed)."""

SUBSCRIPTION_LIMIT_BYTES: Final = 128
"""A flag, an identifier of 64 characters, the space that ends it, and room."""

HANDSHAKE_LIMIT_BYTES: Final = 2048
"""libzmq holds the same limit against CURVE's handshake, of which a command has over 300 bytes."""

STOP_LINGER_MS: Final = 1_000
LAST_PORT: Final = 65_535

log = logging.getLogger(__name__)


class Binding:
    """Sockets jobs, reports (PULL) and events (XPUB), bound.

    Args:
        keys: of the broker and its peers, None where everyone may connect.
        advertise: the host that others reach them by.
    """

    def __init__(self, settings: Settings, keys: KeyFolder | None = None) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # Every lane is a socket (the default limit is 1,023), and a worker's join needs one more.
        self.context.set(zmq.MAX_SOCKETS, 65_535)
        # Before any socket is bound, so that there is no moment without it.
        self.guard = Guard(self.context, keys) if keys else None
        self.server_key = keys.server if keys else None
        host = settings.broker_host
        self.advertise = settings.advertise or ("127.0.0.1" if _unspecified(host) else _url(host))
        self.jobs = new_socket(self.context, zmq.PULL)
        self.reports = new_socket(self.context, zmq.PULL)
        self.events = new_socket(self.context, zmq.XPUB, high_water_mark=EVENTS_HIGH_WATER_MARK)
        self._topics: set[bytes] = set()
        for socket, domain in (
            (self.jobs, Domain.JOBS),
            (self.reports, Domain.REPORTS),
            (self.events, Domain.EVENTS),
        ):
            secure_server(socket, self.server_key, domain)
        for socket in (self.jobs, self.reports):
            socket.setsockopt(zmq.MAXMSGSIZE, INBOX_FRAME_LIMIT_BYTES)
        # Peers send it nothing but subscriptions: who sends a longer one is hung up on.
        self.events.setsockopt(
            zmq.MAXMSGSIZE, HANDSHAKE_LIMIT_BYTES if keys else SUBSCRIPTION_LIMIT_BYTES
        )
        wanted, former = _wanted_ports(settings), _former_ports(settings)
        ports = [
            _bind(socket, _url(host), port, former=before)
            for socket, port, before in zip(
                (self.jobs, self.reports, self.events), wanted, former, strict=True
            )
        ]
        endpoints = [f"tcp://{self.advertise}:{port}" for port in ports]
        self.jobs_endpoint, self.reports_endpoint, self.events_endpoint = endpoints

    @property
    def front(self) -> list[zmq.Socket[bytes]]:
        """The sockets that somebody waits at: all that are read, but for the reports."""
        guard = [self.guard.socket] if self.guard is not None else []
        return [self.jobs, self.events, *guard]

    def read_subscriptions(self) -> list[str]:
        """Take note of who listens to what; return topics that lost their last listener."""
        gone: list[str] = []
        while readable(self.events):
            frame = self.events.recv(zmq.NOBLOCK)
            prefix = frame[1:]
            if frame[:1] == b"\x01":
                self._topics.add(prefix)
            elif frame[:1] == b"\x00":
                self._topics.discard(prefix)
                if prefix.endswith(b" "):
                    gone.append(prefix[:-1].decode("ascii", "replace"))
        return gone

    def has_listener(self, topic: str) -> bool:
        """Whether somebody listens to this topic, or to everything."""
        return topic_prefix(topic) in self._topics or b"" in self._topics

    def close(self) -> None:
        """Close the sockets, giving events under way a moment."""
        for socket in (self.jobs, self.reports):
            socket.close(linger=0)
        self.events.close(linger=STOP_LINGER_MS)
        if self.guard is not None:
            self.guard.close()
        self.context.term()


@contextmanager
def bind_all(settings: Settings, keys: KeyFolder | None = None) -> Iterator[Binding]:
    """Bind the broker's sockets for the length of a block.

    Raises: ConfigError when an address is taken, or not to be bound without keys.
    """
    if keys is None:
        _check_exposure(settings)
    binding = Binding(settings, keys)
    try:
        yield binding
    finally:
        binding.close()


def _check_exposure(settings: Settings) -> None:
    host = settings.broker_host
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not settings.insecure:
        raise ConfigError(
            f"broker_host = {host!r}: whoever reaches the broker's ports can run jobs, and they "
            "have no keys; make some with `imgserve keys init`, or bind 127.0.0.1, or say "
            "--insecure where the network itself is trusted"
        )


def _wanted_ports(settings: Settings) -> tuple[int, int, int]:
    port = settings.broker_port
    return (port, port + 1, port + 2) if port else (0, 0, 0)


def _former_ports(settings: Settings) -> tuple[int, int, int]:
    """The ports of a former life that was killed: with them its peers find this one sooner."""
    try:
        former = Connection.read(settings.connection_file)
        endpoints = (former.jobs, former.reports, former.events)
        jobs, reports, events = (int(each.rpartition(":")[2]) for each in endpoints)
    except (OSError, ValueError, ConfigError):
        return 0, 0, 0
    return jobs, reports, events


def _bind(socket: zmq.Socket[bytes], host: str, port: int, *, former: int) -> int:
    """Bind a port; 0: the former one if it is free, else any."""
    if not port and 0 < former <= LAST_PORT:
        try:
            socket.bind(f"tcp://{host}:{former}")
        except zmq.ZMQError:
            log.info("port %d of the broker's former life is taken", former)
        else:
            return former
    try:
        if port:
            socket.bind(f"tcp://{host}:{port}")
            return port
        return int(socket.bind_to_random_port(f"tcp://{host}"))
    except zmq.ZMQError as exc:
        raise ConfigError(
            f"the broker cannot bind {host}:{port}: {exc} (broker_host, broker_port)"
        ) from exc


def _unspecified(host: str) -> bool:
    return host in ("0.0.0.0", "::", "*")  # noqa: S104 (compared, not bound)


def _url(host: str) -> str:
    return f"[{host}]" if ":" in host else host

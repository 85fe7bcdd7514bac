"""One gateway process: from its listening socket to its last answer."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from tornado.web import Application

from imgserve.client import AsyncClient
from imgserve.config import Settings
from imgserve.errors import ConfigError
from imgserve.gateway.base import BODY_DRAINED_BYTES
from imgserve.gateway.connections import BoundedServer, tls_context
from imgserve.gateway.routes import application
from imgserve.gateway.service import Service
from imgserve.gateway.tokens import Tokens
from imgserve.protocol.descriptors import raise_limit

log = logging.getLogger(__name__)

HEADERS_LIMIT_BYTES: Final = 32 * 1024
"""A request's headers: cookies of a shared domain included, abuse not."""

TORNADO_LOGS: Final = ("tornado.general", "tornado.application")
"""Whatever a client sends that is no HTTP has a line there."""

BACKLOG: Final = 1024
"""Connections that may wait to be accepted: a burst of web applications, not a flood."""


FRESH_S: Final = 0.3
"""How soon after its connection a request comes, over a slow network."""

PROBE_CONNECTIONS: Final = 128
"""On the probe port: orchestrators and scrapers, a few each."""


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event,
    listen_fd: int | None = None,
    probe_fd: int | None = None,
) -> int:
    """Serve HTTP until asked to stop.

    Args:
        settings: the settings.
        stop: set to end: no new connections, waiting requests answered, then the rest.
        listen_fd: a bound, listening socket to use instead of host and port: how several
            processes share one.
        probe_fd: the same for the probes' own port; None: they have none.

    Returns: the exit code, 0.
    Raises: ConfigError when host and port cannot be listened on, or tokens or certificate be read.
    """
    raise_limit()
    tokens = Tokens(settings.tokens_path, required=settings.token_file is not None)
    tls = tls_context(settings.tls_cert, settings.tls_key)
    sockets = _sockets(settings, listen_fd)
    async with AsyncClient(settings, flush_s=1) as client:
        service = Service(settings, client, tokens)
        server = _server(application(service), settings, tls)
        server.limit(
            settings.http_connection_limit,
            settings.http_address_limit,
            settings.http_write_timeout_s,
        )
        service.is_reserved = server.is_reserved
        server.add_sockets(sockets)
        probes = _server(application(service, probes_only=True), settings, None)
        probes.limit(PROBE_CONNECTIONS, PROBE_CONNECTIONS, settings.http_write_timeout_s)
        if probe_fd is not None:
            probes.add_sockets([_inherited(probe_fd)])
        for name in TORNADO_LOGS:
            logging.getLogger(name).addFilter(service.lines)
        sweeps = [asyncio.create_task(each.sweep()) for each in (server, probes)]
        host, port = sockets[0].getsockname()[:2]
        log.info("listening on %s port %d", host, port)
        if tokens.asked_for:
            log.info("every request but probes needs a token of %s", settings.tokens_path)
        elif not ip_address(host).is_loopback:
            log.warning("whoever reaches %s port %d may submit jobs: no log-in", host, port)
        await _until_stopped(stop, sweeps)
        # Order matters: no new work, then answers for the work at hand, then the sockets to the
        # clients, and the broker's link last, since the answers come through it.
        server.stop()
        probes.stop()
        # Who was accepted just before has yet to send its request.
        await asyncio.sleep(FRESH_S)
        await service.drain()
        await server.close_all_connections()
        await probes.close_all_connections()
        for sweep in sweeps:
            sweep.cancel()
        for name in TORNADO_LOGS:
            logging.getLogger(name).removeFilter(service.lines)
    log.info("stopped")
    return 0


def _server(
    application: Application, settings: Settings, tls: ssl.SSLContext | None
) -> BoundedServer:
    return BoundedServer(
        application,
        ssl_options=tls,
        idle_connection_timeout=settings.http_idle_timeout_s,
        body_timeout=settings.http_body_timeout_s,
        max_header_size=HEADERS_LIMIT_BYTES,
        max_body_size=BODY_DRAINED_BYTES,
    )


async def _until_stopped(stop: asyncio.Event, sweeps: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the end; a sweep never ends but by a defect, which must not go unseen."""
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopped, *sweeps], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for task in done - {stopped}:
        task.result()


def _inherited(descriptor: int) -> socket.socket:
    shared = socket.socket(fileno=descriptor)
    shared.setblocking(False)
    return shared


def _sockets(settings: Settings, listen_fd: int | None) -> list[socket.socket]:
    if listen_fd is not None:
        return [_inherited(listen_fd)]
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server(
            (settings.host, settings.port),
            family=family,
            backlog=BACKLOG,
            reuse_port=settings.gateway_processes > 1,
        )
    except OSError as exc:
        raise ConfigError(
            f"host = {settings.host!r}, port = {settings.port}: {exc.strerror or exc}"
        ) from exc
    listener.setblocking(False)
    return [listener]

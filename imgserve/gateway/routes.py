"""Every path of the HTTP interface, and the one log line of each request."""

from __future__ import annotations

import logging
from typing import Any

from tornado.web import Application, RequestHandler

from imgserve.gateway.base import Handler, NotFoundHandler
from imgserve.gateway.jobs import JobHandler, JobsHandler
from imgserve.gateway.origins import HostNames
from imgserve.gateway.probes import HealthHandler, MetricsHandler, QueueHandler, ReadyHandler
from imgserve.gateway.root import RootHandler
from imgserve.gateway.service import Service

log = logging.getLogger(__name__)

ROUTES: tuple[tuple[str, type[Handler]], ...] = (
    (r"/", RootHandler),
    (r"/jobs", JobsHandler),
    (r"/jobs/([^/]+)", JobHandler),
    (r"/healthz", HealthHandler),
    (r"/readyz", ReadyHandler),
    (r"/metrics", MetricsHandler),
    (r"/queue", QueueHandler),
)


def application(service: Service, *, probes_only: bool = False) -> Application:
    """Build the application around what its handlers share."""
    settings = service.settings
    listening = settings.probe_host if probes_only else settings.host
    names = HostNames.of(listening, settings.host_name)
    shared: dict[str, Any] = {"service": service, "names": names}
    return Application(
        [(path, handler, shared) for path, handler in ROUTES if handler.probe or not probes_only],
        default_handler_class=NotFoundHandler,
        default_handler_args=shared,
        log_function=_record,
    )


def _record(handler: RequestHandler) -> None:
    """Count and log a request: route, job, status, time; never its URLs.

    Strangers can ask without end: a probe that succeeds has no line, and all that makes no job
    shares a budget of lines.
    """
    if not isinstance(handler, Handler):
        return
    method, status = handler.request.method or "", handler.get_status()
    if method not in handler.SUPPORTED_METHODS:
        method = "other"  # a label must not be what a client makes up
    seconds = handler.request.request_time()
    metrics = handler.service.metrics
    metrics.requests.labels(method, handler.route, status).inc()
    metrics.seconds.labels(handler.route).observe(seconds)
    if handler.probe and status < 400:
        return
    if not handler.job_id and not handler.service.lines.spend():
        return
    log.info(
        "%s %s: %d, job %s, %.1f ms", method, handler.route, status, handler.job_id or "-",
        seconds * 1000,
    )  # fmt: skip

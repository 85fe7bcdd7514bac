"""What orchestrators and Prometheus ask: is it alive, is it ready, how does it do."""

from __future__ import annotations

from typing import Final

from imgserve.errors import ServiceUnavailable
from imgserve.gateway.base import Handler
from imgserve.gateway.metrics import CONTENT_TYPE

ASK_TIMEOUT_S: Final = 1.0
"""Probes and scrapes are short of patience themselves."""


class HealthHandler(Handler):
    """`GET /healthz`: this process serves."""

    allowed = ("GET", "HEAD")
    public = True
    probe = True
    route = "/healthz"

    def get(self) -> None:
        """Answer 200."""
        self.reply(200, {"msg": "alive"})

    head = get


class ReadyHandler(Handler):
    """`GET /readyz`: a job posted now would be worked on."""

    allowed = ("GET", "HEAD")
    public = True
    probe = True
    route = "/readyz"

    async def get(self) -> None:
        """Answer 200 once a worker is connected to the broker."""
        try:
            figures = await self.service.recent_figures(ASK_TIMEOUT_S)
        except ServiceUnavailable:
            self._not_ready("the broker does not answer")
            return
        workers = len(figures.get("workers", ()))
        if self.service.draining:
            self._not_ready("the gateway is shutting down")
        elif workers == 0:
            self._not_ready("no worker is connected")
        else:
            self.reply(200, {"msg": "ready", "workers": workers})

    head = get

    def _not_ready(self, reason: str) -> None:
        self.set_header("Retry-After", "1")
        self.reply(503, {"msg": "not ready", "detail": reason})


class QueueHandler(Handler):
    """`GET /queue`: how much work there is, for an autoscaler (KEDA's metrics-api)."""

    allowed = ("GET", "HEAD")
    route = "/queue"

    async def get(self) -> None:
        """Answer with jobs that wait, jobs that run, and both."""
        try:
            figures = await self.service.client.stats(ASK_TIMEOUT_S)
        except ServiceUnavailable as exc:
            self.reply_unavailable(exc, detail=True)  # an autoscaler then leaves all as it is
            return
        queued, running = figures.get("queue_length", 0), figures.get("in_flight", 0)
        self.reply(200, {"queued": queued, "running": running, "total": queued + running})

    head = get


class MetricsHandler(Handler):
    """`GET /metrics`: the broker's figures, and the HTTP figures of this process."""

    allowed = ("GET", "HEAD")
    probe = True
    route = "/metrics"

    async def get(self) -> None:
        """Answer in Prometheus' text format, with what is known if the broker is silent."""
        try:
            figures = await self.service.client.stats(ASK_TIMEOUT_S)
        except ServiceUnavailable:
            figures = None
        self.service.metrics.waiting.set(self.service.waiting)
        self.set_header("Content-Type", CONTENT_TYPE)
        self.finish(self.service.metrics.render(figures))

    head = get

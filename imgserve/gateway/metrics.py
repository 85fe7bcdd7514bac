"""Prometheus text: the broker's figures, asked fresh, and this process's own HTTP counters."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

AnyFamily = TypeVar("AnyFamily", GaugeMetricFamily, CounterMetricFamily)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_BOUNDS_S: Final = (
    0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 30.0,
)  # fmt: skip

GAUGES: Final = {
    "queue_length": ("imgserve_queue_length", "Jobs that wait for a worker"),
    "in_flight": ("imgserve_in_flight", "Jobs that workers hold"),
    "credit": ("imgserve_credit", "Free slots of all workers"),
    "uptime_s": ("imgserve_broker_uptime_seconds", "Seconds since the broker started"),
    "full": ("imgserve_broker_full", "Whether the broker takes no jobs now"),
}
DESCRIPTORS: Final = {
    "open": ("imgserve_broker_descriptors_open", "Descriptors that the broker has open"),
    "limit": ("imgserve_broker_descriptors_limit", "Descriptors that the broker may have open"),
}


class BrokerFigures(Collector):
    """Turns the broker's figures into metrics; figures of None mean that it did not answer."""

    def __init__(self) -> None:
        self.figures: Mapping[str, Any] | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the figures set last."""
        up = self.figures is not None
        yield _gauge("imgserve_broker_up", "Whether the broker answers this gateway", up)
        if self.figures is None:
            return
        figures = self.figures
        jobs = CounterMetricFamily("imgserve_jobs", "Jobs by state", labels=["state"])
        for state, count in figures.get("jobs_total", {}).items():
            jobs.add_metric([state], count)
        yield jobs
        for figure, (name, text) in GAUGES.items():
            yield _gauge(name, text, figures.get(figure, 0))
        descriptors = figures.get("descriptors", {})
        for figure, (name, text) in DESCRIPTORS.items():
            if figure in descriptors:  # a limit of 0 would raise alarms, an absent one none
                yield _gauge(name, text, descriptors[figure])
        workers = figures.get("workers", ())
        yield _gauge("imgserve_workers", "Connected workers", len(workers))
        yield from _workers(workers)
        yield _stages(figures.get("stages", {}))


class HttpMetrics:
    """The counters of one gateway process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.broker = BrokerFigures()
        self.registry.register(self.broker)
        self.requests = Counter(
            "imgserve_http_requests",
            "HTTP requests answered by this process",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "imgserve_http_seconds",
            "Seconds from a request's headers to its answer, in this process",
            ["route"],
            buckets=LATENCY_BOUNDS_S,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "imgserve_http_waiting",
            "HTTP requests that wait for an answer in this process",
            registry=self.registry,
        )

    def render(self, figures: Mapping[str, Any] | None) -> bytes:
        """Return the exposition text."""
        self.broker.figures = figures
        return bytes(generate_latest(self.registry))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _workers(workers: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    """One sample a worker, named by host and pid; a thousand of them are 500 KB of text."""
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
        "slots": _of_worker(GaugeMetricFamily, "slots", "Jobs it may hold"),
        "busy": _of_worker(GaugeMetricFamily, "busy", "Jobs it holds"),
        "age_s": _of_worker(GaugeMetricFamily, "age_seconds", "Seconds since it joined"),
        "last_beat_s": _of_worker(
            GaugeMetricFamily, "silent_seconds", "Seconds since it was last heard"
        ),
        "rss_bytes": _of_worker(GaugeMetricFamily, "rss_bytes", "Memory with pixel processes"),
        "jobs_ended": _of_worker(CounterMetricFamily, "jobs", "Jobs that it brought to an end"),
        "cpu_s": _of_worker(CounterMetricFamily, "cpu_seconds", "CPU with pixel processes"),
    }
    for worker in workers:
        figures = {**worker, **worker.get("vitals", {})}
        labels = [str(worker.get("host", "")), str(worker.get("pid", ""))]
        for figure, family in families.items():
            family.add_metric(labels, float(figures.get(figure, 0)))
    yield from families.values()


def _of_worker(kind: type[AnyFamily], name: str, text: str) -> AnyFamily:
    return kind(f"imgserve_worker_{name}", text, labels=["host", "pid"])


def _stages(stages: Mapping[str, Any]) -> Metric:
    family = HistogramMetricFamily(
        "imgserve_stage_seconds", "Seconds that jobs spent in each stage", labels=["stage"]
    )
    for stage, histogram in stages.items():
        bounds = [*map(str, map(float, histogram["bounds"])), "+Inf"]
        totals = itertools.accumulate(histogram["counts"])
        family.add_metric([stage], list(zip(bounds, totals, strict=True)), histogram["sum"])
    return family

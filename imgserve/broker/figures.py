"""The broker's figures for `stats`: what `status`, `top` and the metrics show."""

from __future__ import annotations

from typing import Any

from imgserve.broker.core import Core
from imgserve.broker.fleet import Worker


def figures_of(core: Core, now_s: float) -> dict[str, Any]:
    """Return counts, gauges, histograms and the table of workers."""
    return {
        "jobs_total": dict(core.tally.jobs_total),
        "queue_length": len(core.line),
        "in_flight": core.fleet.in_flight,
        "credit": core.fleet.credit,
        "stages": core.tally.stages(),
        "workers": [_worker(each, now_s) for each in core.fleet.workers.values()],
        "epoch": core.epoch,
    }


def _worker(worker: Worker, now_s: float) -> dict[str, Any]:
    hello, beat = worker.hello, worker.beat
    return {
        "incarnation": hello.incarnation,
        "host": hello.host,
        "pid": hello.pid,
        "slots": hello.slots,
        "busy": len(worker.held),
        "version": hello.version,
        "pixel_pids": list(beat.pixel_pids if beat else hello.pixel_pids),
        "age_s": now_s - worker.joined_s,
        "last_beat_s": now_s - worker.heard_s,
        "vitals": dict(beat.vitals) if beat else {},
    }

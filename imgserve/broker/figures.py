"""The broker's figures for `stats`: what `status`, `top` and the metrics show."""

from __future__ import annotations

import heapq
from typing import Any, Final

from imgserve.broker.core import Core
from imgserve.broker.fleet import Departed, Worker

TAGS_SHOWN: Final = 20


def figures_of(core: Core, now_s: float) -> dict[str, Any]:
    """Return counts, gauges, histograms and the table of workers."""
    return {
        "jobs_total": dict(core.tally.jobs_total),
        "queue_length": len(core.line),
        "in_flight": core.fleet.in_flight,
        "credit": core.fleet.credit,
        "stages": core.tally.stages(),
        "workers": [_worker(each, now_s) for each in core.fleet.workers.values()],
        "departed": [_departed(each, now_s) for each in reversed(core.fleet.departed)],
        "waiting_tags": _largest(core.line.waiting_by_tag()),
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
        "tags": list(hello.tags),
        "leaving": worker.leaving,
        "jobs_ended": worker.ended,
        "clock_off_s": worker.clock_off_s,
    }


def _departed(gone: Departed, now_s: float) -> dict[str, Any]:
    return {
        "incarnation": gone.hello.incarnation,
        "host": gone.hello.host,
        "pid": gone.hello.pid,
        "version": gone.hello.version,
        "reason": gone.reason,
        "jobs_ended": gone.ended,
        "age_s": gone.age_s,
        "left_s": now_s - gone.left_s,
    }


def _largest(waiting: dict[str, int]) -> dict[str, int]:
    """The tags come from submitters, who may invent any number of them."""
    return dict(heapq.nlargest(TAGS_SHOWN, waiting.items(), key=lambda entry: entry[1]))

"""What an attempt at a job is given: what it works with, and how it speaks to the broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from imgserve.protocol.reports import JobReports
from imgserve.request import ResultLimits
from imgserve.worker.budget import MemoryBudget
from imgserve.worker.inspection import SourceLimits
from imgserve.worker.pixels import PixelPool
from imgserve.worker.transfers import Transfers


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every attempt of a worker works with.

    Args:
        memory: for sources.
        upload_memory: for results.
    """

    transfers: Transfers
    pixels: PixelPool
    memory: MemoryBudget
    upload_memory: MemoryBudget
    limits: SourceLimits
    results: ResultLimits
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How an attempt speaks to the broker.

    Args:
        incarnation: the worker's, for reports.
        next_seq: numbers a report.
        report: takes a finished report.
        may_upload: whether the worker's lease still holds.
    """

    incarnation: str
    next_seq: Callable[[], int]
    report: Callable[[JobReports], None]
    may_upload: Callable[[], bool]

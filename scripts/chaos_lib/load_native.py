"""The native submitter: every event that reaches it goes to the ledger, heeded or not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from imgserve.client import AsyncClient
from imgserve.client.outcome import is_over
from imgserve.errors import ServiceUnavailable
from imgserve.protocol.events import EventsMessage, JobState, Refused
from scripts.chaos_lib.jobs import Flavour, PlannedJob
from scripts.chaos_lib.load import Load, Order
from scripts.chaos_lib.trace import Trace

FOR_EVER_S = 86_400.0


async def submit_natively(order: Order, load: Load) -> None:
    """Submit, cancel, submit again."""
    chance = random.Random(order.seed)  # noqa: S311 (a plan)
    async with AsyncClient(order.where) as client:
        link = client.session._link  # noqa: SLF001 (the only place where all events pass)
        link._on_event = _recorder(load.ledger, link._on_event)  # noqa: SLF001
        await load.run(lambda job: _life(client, job, load.ledger, chance))


def _recorder(
    ledger: Trace, hear: Callable[[EventsMessage], None]
) -> Callable[[EventsMessage], None]:
    def record(message: EventsMessage) -> None:
        if isinstance(message, JobState):
            ledger.write("event", job=message.job_id, **_told(message))
        elif isinstance(message, Refused) and message.job_id != "probe":
            ledger.write("refused", job=message.job_id, reason=message.reason, epoch=message.epoch)
        hear(message)

    return record


def _told(message: JobState) -> dict[str, Any]:
    final = {"detail": message.detail, "reasons": message.reasons} if message.code else {}
    return {
        "state": message.state,
        "code": message.code,
        "attempts": message.attempts,
        "epoch": message.epoch,
        "seq": message.seq,
        **final,
    }


async def _life(client: AsyncClient, job: PlannedJob, ledger: Trace, chance: random.Random) -> None:
    handle = await client.submit(job.request, job.job_id)
    if job.flavour is Flavour.CANCEL:
        await asyncio.sleep(chance.expovariate(4))
        try:
            await client.cancel(job.job_id)
        except ServiceUnavailable:
            ledger.write("cancel unanswered", job=job.job_id)
    await handle.until(is_over, FOR_EVER_S)
    if job.flavour in (Flavour.AGAIN, Flavour.OTHER):
        request = dict(job.request)
        if job.flavour is Flavour.OTHER:
            request["srcURL"] += "#other" if "?" in request["srcURL"] else "?other"
        again = await client.submit(request, job.job_id)
        await again.until(is_over, FOR_EVER_S)

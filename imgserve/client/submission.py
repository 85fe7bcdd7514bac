"""From a request, as the user has it, to an entry of the ledger: checked, canonical, with an id."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from imgserve import request as contract
from imgserve.client.ledger import Entry
from imgserve.errors import RequestInvalid, RequestUnparsable
from imgserve.protocol import checks
from imgserve.protocol.jobs import PRIORITY_HIGH, PRIORITY_LOW

RequestLike = Mapping[str, Any] | bytes
"""A request: the JSON's keys in a mapping, or the JSON itself in UTF-8."""


def new_id() -> str:
    """Return a job id that nobody can guess: whoever knows it may ask for the job."""
    return os.urandom(16).hex()


def prepare(
    request: RequestLike,
    job_id: str | None,
    priority: int,
    tag: str = "",
    *,
    limits: contract.ResultLimits = contract.ANY_RESULT,
) -> Entry:
    """Check a request and make its entry.

    Args:
        request: the request.
        job_id: the id it shall have, 1 to 64 of A-Z a-z 0-9 _ . : -; None: a fresh one.
        priority: -100 to 100.
        tag: what its worker must have; empty: any worker.
        limits: of the result, where they are known: the worker judges by its own all the same.

    Raises:
        RequestUnparsable, RequestInvalid: the request does not pass the quick checks.
        ProtocolError: the id, the priority or the tag is not allowed.
    """
    if job_id is not None:
        checks.identifier("id", job_id)
    checks.integer("priority", priority, PRIORITY_LOW, PRIORITY_HIGH)
    if tag:
        checks.identifier("tag", tag)
    document = contract.load(request) if isinstance(request, bytes) else request
    contract.check(document, limits)
    try:
        payload = contract.canonical(document)
    except (TypeError, ValueError, RecursionError) as exc:
        raise RequestUnparsable("the request holds a value that JSON has no word for") from exc
    size_bytes = max(len(payload), len(request) if isinstance(request, bytes) else 0)
    if size_bytes > contract.REQUEST_LIMIT_BYTES:
        raise RequestInvalid(
            f"the request has {size_bytes} bytes as ASCII JSON; "
            f"at most {contract.REQUEST_LIMIT_BYTES} are taken",
            code=117,
        )
    return Entry(job_id or new_id(), payload, priority, tag)

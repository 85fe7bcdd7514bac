"""The HTTP submitter: a web application that says a request again until it is answered."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any, Final

from tornado.httpclient import HTTPClientError, HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from scripts.chaos_lib.jobs import Flavour, PlannedJob
from scripts.chaos_lib.load import Load, Order

CONNECTIONS: Final = 500
ANSWER_S: Final = 60.0
TERMINAL: Final = frozenset({"done", "failed", "rejected", "cancelled"})


async def submit_over_http(order: Order, load: Load) -> None:
    """POST until there is a verdict, then ask how the job goes until it has ended."""
    submitter = HttpSubmitter(order, load)
    try:
        await load.run(submitter.live)
    finally:
        submitter.close()


class HttpSubmitter:
    """Writes down every answer, and every connection that broke."""

    def __init__(self, order: Order, load: Load) -> None:
        self._url = order.where
        self._ledger = load.ledger
        self._chance = random.Random(order.seed)  # noqa: S311 (a plan)
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=CONNECTIONS)

    def close(self) -> None:
        """Break off what is still open."""
        self._client.close()

    async def live(self, job: PlannedJob) -> None:
        """One job from its first POST to its end."""
        body = json.dumps(job.request)
        document = await self._insist(job.job_id, "/", method="POST", body=body)
        if "dstURL" not in document:
            return
        await asyncio.sleep(self._chance.uniform(0.05, 0.5))
        if job.flavour is Flavour.CANCEL:
            await self._insist(job.job_id, f"/jobs/{job.job_id}", method="DELETE")
        while True:
            document = await self._insist(job.job_id, f"/jobs/{job.job_id}", method="GET")
            if document.get("state") in TERMINAL or "state" not in document:
                break
            await asyncio.sleep(self._chance.uniform(0.5, 2))
        if job.flavour is Flavour.AGAIN:
            await self._insist(job.job_id, "/", method="POST", body=body)

    async def _insist(self, job_id: str, path: str, **call: Any) -> dict[str, Any]:
        """Ask until there is an answer that is no 503; return its document."""
        while True:
            began_s = time.monotonic()
            try:
                answer = await self._client.fetch(
                    self._url + path,
                    headers={"Idempotency-Key": job_id, "Content-Type": "application/json"},
                    connect_timeout=ANSWER_S,
                    request_timeout=ANSWER_S,
                    raise_error=False,
                    **call,
                )
                if answer.code == 599:
                    raise answer.error or OSError("no answer")
            except (OSError, HTTPClientError) as exc:
                broken = f"{type(exc).__name__}: {exc}"
                self._ledger.write("broken", job=job_id, began=began_s, detail=broken)
                await asyncio.sleep(self._chance.uniform(0.1, 0.4))
                continue
            document = self._note(job_id, call["method"], path, answer)
            if answer.code != 503:
                return document
            wait_s = min(float(answer.headers.get("Retry-After", 1)), 2.0)
            await asyncio.sleep(wait_s * self._chance.uniform(0.2, 1))

    def _note(self, job_id: str, method: str, path: str, answer: HTTPResponse) -> dict[str, Any]:
        try:
            document = json.loads(answer.body or b"")
        except ValueError:
            document = {"not JSON": repr(answer.body[:200])}
        kept = ("dstURL", "state", "code", "msg", "detail", "attempts", "not JSON")
        self._ledger.write(
            "answer",
            job=job_id,
            method=method,
            status=answer.code,
            retry_after=answer.headers.get("Retry-After"),
            root=path == "/",
            document={key: document[key] for key in kept if document.get(key) not in (None, "")},
        )
        return document

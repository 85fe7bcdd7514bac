"""`/jobs`: submit without waiting for the placeholder, look at a job, cancel it."""

from __future__ import annotations

from typing import Any, Final

from imgserve.client.ledger import Entry
from imgserve.errors import JobConflict, RequestInvalid, RequestUnparsable, ServiceUnavailable
from imgserve.gateway.base import JSON, Handler
from imgserve.gateway.submitting import SubmitHandler
from imgserve.picture_warnings import PictureWarning
from imgserve.protocol.checks import is_identifier
from imgserve.protocol.events import TERMINAL, JobState, State

LOOK_TIMEOUT_S: Final = 3.0
"""The broker answers in milliseconds; longer than this and it is not there."""

CANCELLED: Final = 406


MEDIA_TYPES: Final = frozenset({"", JSON, "application/x-www-form-urlencoded"})
"""Of a request's body; the last is what curl says of `--data`, whatever the data are."""


def is_queued(entry: Entry) -> bool:
    """Whether the broker has the job safe, or never will."""
    return entry.latest is not None or entry.over


class JobsHandler(SubmitHandler):
    """`POST /jobs`."""

    allowed = ("POST",)
    route = "/jobs"

    async def post(self) -> None:
        """Answer 202 as soon as the job is durable."""
        media_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type not in MEDIA_TYPES:
            detail = f"a request is JSON: send Content-Type {JSON}, or none"
            self.reply(415, {"msg": "unsupported media type", "detail": detail})
            return
        try:
            entry = self.read_entry()
            self.job_id = entry.job_id
            await self.wait_for(entry, is_queued)
        except RequestUnparsable as exc:
            self.reply(400, {"msg": "request parse error", "detail": str(exc)})
        except RequestInvalid as exc:
            self.reply(400, {"msg": "request invalid", "code": exc.code, "detail": exc.detail})
        except JobConflict as exc:
            self.reply(409, {"msg": "job conflict", "detail": str(exc)})
        except ServiceUnavailable as exc:
            self.reply_unavailable(exc, detail=True)
        else:
            state = entry.latest.state if entry.latest else State.QUEUED
            links = {"self": self.location}
            self.reply(202, {"id": entry.job_id, "state": state, "links": links})


class JobHandler(Handler):
    """`/jobs/<id>`: from any gateway process, since the broker is asked."""

    allowed = ("GET", "DELETE")
    route = "/jobs/<id>"

    async def get(self, job_id: str) -> None:
        """Answer with the job's present state."""
        try:
            state = await self._find(job_id)
        except ServiceUnavailable as exc:
            self.reply_unavailable(exc, detail=True)
            return
        if state is None:
            self._unknown(job_id)
        else:
            self.reply(200, job_document(state))

    async def delete(self, job_id: str) -> None:
        """Cancel: 202 and the state now, 200 when it was cancelled before, 409 when too late."""
        client = self.service.client
        try:
            state = await self._find(job_id)
            fresh = state is not None and state.state not in TERMINAL
            if fresh:
                state = await self.service.ask(client.cancel(self.job_id, LOOK_TIMEOUT_S))
        except ServiceUnavailable as exc:
            self.reply_unavailable(exc, detail=True)
            return
        if state is None:
            self._unknown(job_id)
            return
        cancelled = state.state == State.CANCELLED or state.code == CANCELLED
        if fresh and (cancelled or state.state not in TERMINAL):
            self.reply(202, {"id": self.job_id, "state": state.state})
        elif cancelled:
            self.reply(200, {"id": self.job_id, "state": state.state})
        else:
            detail = f"the job is {state.state}; that does not change any more"
            self.reply(409, {"msg": "job has ended", "state": state.state, "detail": detail})

    async def _find(self, job_id: str) -> JobState | None:
        if not is_identifier(job_id):
            return None
        token = self.token
        if token is not None and not token.operator and not token.owns(job_id):
            job_id = token.id_of(job_id)  # the token's own Idempotency-Key, or nobody's job
        self.job_id = job_id
        return await self.service.ask(self.service.client.find(job_id, LOOK_TIMEOUT_S))

    def _unknown(self, job_id: str) -> None:
        del job_id  # not echoed: it is whatever the client wrote
        detail = "there is no job with this id, or it is forgotten"
        self.reply(404, {"msg": "not found", "detail": detail})


def job_document(state: JobState) -> dict[str, Any]:
    """Return the public view of a job: null where nothing is known yet."""
    return {
        "id": state.job_id,
        "state": state.state,
        "dstURL": state.dst_url or None,
        "code": state.code or None,
        "detail": state.detail or None,
        "attempts": state.attempts,
        "seconds": state.seconds,
        "width": state.width_px or None,
        "height": state.height_px or None,
        "bytes": state.size_bytes or None,
        "warnings": [PictureWarning(*pair).as_json() for pair in state.warnings],
    }

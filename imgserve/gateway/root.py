"""`POST /`: the historical contract, exact to the key."""

from __future__ import annotations

from imgserve.client.outcome import accepted_reply, is_accepted
from imgserve.errors import (
    CodedError,
    JobConflict,
    RequestUnparsable,
    ServiceUnavailable,
)
from imgserve.gateway.submitting import SubmitHandler


class RootHandler(SubmitHandler):
    """Takes a request and answers once it is accepted or rejected."""

    allowed = ()  # other methods get 404 until there is a dashboard
    route = "/"

    async def post(self) -> None:
        """Answer HTTP 200 for every verdict on the request, 503 for trouble of the service."""
        try:
            entry = self.read_entry()
            self.job_id = entry.job_id
            await self.wait_for(entry, is_accepted)
            self.set_header("Location", self.location)
            self.reply(200, accepted_reply(entry))
        except RequestUnparsable:
            self.reply(200, {"msg": "request parse error"})
        except ServiceUnavailable as exc:
            self.reply_unavailable(exc, detail=False)
        except CodedError as exc:
            self.reply(200, {"msg": "request invalid", "code": exc.code})
        except JobConflict:
            # The contract's table has no row for a used key; it is a value that is not allowed.
            self.reply(200, {"msg": "request invalid", "code": 115})

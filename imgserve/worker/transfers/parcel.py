"""What an upload carries, whatever its scheme."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

from imgserve.request import Destination
from imgserve.worker.transfers.urls import Target

# Of attempts that may have left something; more than a job has by default.
_FORMER_LIMIT: Final = 8


@dataclass(frozen=True, slots=True)
class UploadedBy:
    """The attempt that an upload is part of.

    Args:
        job_id, attempt: they name its temporary file, so that a later attempt can delete what an
            earlier one left when its worker was killed.
        is_result: it is the result, which must survive the machine, and no placeholder.
    """

    job_id: str
    attempt: int
    is_result: bool = False

    @property
    def temporary(self) -> str:
        """The name of this attempt's temporary file; no other attempt has the same."""
        return self._name(self.attempt)

    @property
    def former(self) -> list[str]:
        """The names that earlier attempts may have left."""
        first = max(1, self.attempt - _FORMER_LIMIT)
        return [self._name(attempt) for attempt in range(first, self.attempt)]

    def _name(self, attempt: int) -> str:
        # Not the id itself, which a client may have chosen.
        digest = hashlib.sha256(self.job_id.encode()).hexdigest()[:16]
        return f".imgserve-{digest}-{attempt}.part"


def anonymous() -> UploadedBy:
    """Return an attempt of no job: its names are its own."""
    return UploadedBy(secrets.token_hex(16), 1)


@dataclass(slots=True)
class Parcel:
    """A result and where it goes; `target` is the destination's URL taken apart."""

    target: Target
    destination: Destination
    content_type: str
    body: bytes = field(repr=False)
    by: UploadedBy = field(default_factory=anonymous)

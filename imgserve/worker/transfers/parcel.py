"""What an upload carries, whatever its scheme."""

from __future__ import annotations

from dataclasses import dataclass, field

from imgserve.request import Destination
from imgserve.worker.transfers.urls import Target


@dataclass(slots=True)
class Parcel:
    """A result and where it goes; `target` is the destination's URL taken apart."""

    target: Target
    destination: Destination
    content_type: str
    body: bytes = field(repr=False)

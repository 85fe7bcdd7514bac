"""What the core asks of the server, and what the server tells the core besides messages.

Not frozen, for the same reason as messages (protocol/codec.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from imgserve.broker.job import Row
from imgserve.protocol.events import EventsMessage
from imgserve.protocol.lane import LaneMessage
from imgserve.protocol.reports import Hello

# --- actions: core -> server


@dataclass(slots=True)
class Append:
    """Journal a new job; answered by `Appended`, or by `AppendFailed`."""

    row: Row


@dataclass(slots=True)
class Update:
    """Journal the progress of an unfinished job; answered by `Updated`.

    Args:
        version: counts the updates of the job, so that the answer tells which one is on disk.
    """

    row: Row
    version: int


@dataclass(slots=True)
class Finish:
    """Journal a terminal state; answered by `Finished`."""

    row: Row


@dataclass(slots=True)
class Load:
    """Read waiting jobs whose (rank, id) follows; answered by `Loaded`."""

    after: tuple[float, str]
    limit: int


class Purpose(StrEnum):
    """Why a job is looked up."""

    REPLAY = "replay"
    CANCEL = "cancel"


@dataclass(slots=True)
class LookUp:
    """Read jobs by id; answered by `LookedUp`."""

    job_ids: tuple[str, ...]
    asker: str
    purpose: Purpose


@dataclass(slots=True)
class Say:
    """Publish an event under a topic."""

    topic: str
    message: EventsMessage


@dataclass(slots=True)
class Send:
    """Send a message down a worker's lane."""

    incarnation: str
    message: LaneMessage


@dataclass(slots=True)
class OpenLane:
    """Bind a lane; answered by `LaneOpened` or `LaneRefused`."""

    hello: Hello


@dataclass(slots=True)
class CloseLane:
    """Close a lane and forget what is still in it."""

    incarnation: str


Action = Append | Update | Finish | Load | LookUp | Say | Send | OpenLane | CloseLane

# --- events: server -> core


@dataclass(slots=True)
class Appended:
    """Rows are on disk: (job id, None), or (job id, the row that was there before)."""

    results: tuple[tuple[str, Row | None], ...]


@dataclass(slots=True)
class AppendFailed:
    """Rows could not be written; the jobs were not taken."""

    job_ids: tuple[str, ...]
    detail: str


@dataclass(slots=True)
class Updated:
    """The progress of these jobs is on disk: (job id, version of the latest update)."""

    results: tuple[tuple[str, int], ...]


@dataclass(slots=True)
class Finished:
    """The terminal states of these jobs are on disk."""

    job_ids: tuple[str, ...]


@dataclass(slots=True)
class Loaded:
    """Waiting jobs in order; fewer than the limit asked for means that there are no more."""

    rows: tuple[Row, ...]
    limit: int


@dataclass(slots=True)
class LookedUp:
    """Rows found; ids without a row are unknown."""

    job_ids: tuple[str, ...]
    rows: tuple[Row, ...]
    asker: str
    purpose: Purpose


@dataclass(slots=True)
class LaneOpened:
    """A lane is bound."""

    incarnation: str
    endpoint: str


@dataclass(slots=True)
class LaneRefused:
    """No lane could be bound."""

    incarnation: str
    reason: str


@dataclass(slots=True)
class Unsubscribed:
    """Nobody listens to this topic any more."""

    topic: str


@dataclass(slots=True)
class Tick:
    """Time has passed."""


InternalEvent = (
    Appended
    | AppendFailed
    | Updated
    | Finished
    | Loaded
    | LookedUp
    | LaneOpened
    | LaneRefused
    | Unsubscribed
    | Tick
)

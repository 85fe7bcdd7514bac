"""The life of a job inside the broker: phases, happenings and the one table that joins them.

The diagram in docs/architecture.md is made from the table by `python -m imgserve.broker.states`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from imgserve.errors import ImgserveError


class Phase(StrEnum):
    """Where a job is in the broker."""

    STORING = "storing"  # on its way to the journal; nothing is promised yet
    QUEUED = "queued"  # in the journal, waiting for credit or for its delay to pass
    DISPATCHED = "dispatched"  # one worker has it
    ACCEPTED = "accepted"  # that worker put the placeholder up
    ENDING = "ending"  # its terminal state is on its way to the journal
    ENDED = "ended"  # journaled and said


class Happening(StrEnum):
    """What moves a job from phase to phase."""

    STORED = "stored"
    DISPATCH = "dispatch"
    ACCEPT = "accept"
    RETURN = "return"
    LOSE = "lose"
    END = "end"
    RECORDED = "recorded"


class IllegalTransitionError(ImgserveError):
    """Raised when a phase has no such happening; nothing has changed."""


TRANSITIONS: Final[Mapping[tuple[Phase, Happening], Phase]] = {
    (Phase.STORING, Happening.STORED): Phase.QUEUED,
    (Phase.QUEUED, Happening.DISPATCH): Phase.DISPATCHED,
    (Phase.QUEUED, Happening.END): Phase.ENDING,
    (Phase.DISPATCHED, Happening.ACCEPT): Phase.ACCEPTED,
    (Phase.DISPATCHED, Happening.RETURN): Phase.QUEUED,
    (Phase.DISPATCHED, Happening.LOSE): Phase.QUEUED,
    (Phase.DISPATCHED, Happening.END): Phase.ENDING,
    (Phase.ACCEPTED, Happening.RETURN): Phase.QUEUED,
    (Phase.ACCEPTED, Happening.LOSE): Phase.QUEUED,
    (Phase.ACCEPTED, Happening.END): Phase.ENDING,
    (Phase.ENDING, Happening.RECORDED): Phase.ENDED,
}


def step(phase: Phase, happening: Happening) -> Phase:
    """Return the phase that follows.

    Raises: IllegalTransitionError when the table has no such row.
    """
    try:
        return TRANSITIONS[phase, happening]
    except KeyError:
        raise IllegalTransitionError(f"a job that is {phase} cannot {happening}") from None


def diagram() -> str:
    """Render the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> storing: submit"]
    lines += [f"    {old} --> {new}: {event}" for (old, event), new in TRANSITIONS.items()]
    lines.append("    ended --> [*]")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(diagram(), end="")  # noqa: T201 (the page's source)

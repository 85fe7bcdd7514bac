"""Named places where a part kills itself: between two steps that a crash must not tear apart.

They are put around the part's own functions from outside; the product knows nothing of them.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Wanted = Callable[..., bool]
Strike = Callable[[], None]


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """One place.

    Args:
        part: the part that passes it.
        owner: gives the class; called in the part's process only, so that others load nothing.
        function: the method's name.
        after: crash once the method has returned, not before it begins.
        wanted: with the method's arguments: whether this passage counts.
    """

    part: str
    owner: Callable[[], type]
    function: str
    after: bool
    wanted: Wanted = lambda *_: True


def _journal() -> type:
    from imgserve.broker.journal import Journal  # noqa: PLC0415

    return Journal


def _server() -> type:
    from imgserve.broker.server import Server  # noqa: PLC0415

    return Server


def _connection() -> type:
    from imgserve.protocol.connection import Connection  # noqa: PLC0415

    return Connection


def _attempt() -> type:
    from imgserve.worker.job import Attempt  # noqa: PLC0415

    return Attempt


def _session() -> type:
    from imgserve.worker.session import Session  # noqa: PLC0415

    return Session


def _submitter() -> type:
    from imgserve.client.session import Session  # noqa: PLC0415

    return Session


def _root() -> type:
    from imgserve.gateway.root import RootHandler  # noqa: PLC0415

    return RootHandler


def _batch_has(name: str) -> Wanted:
    return lambda _self, _database, batch: any(type(entry).__name__ == name for entry in batch)


def _says(*states: str) -> Wanted:
    return lambda _self, said: getattr(said.message, "state", None) in states


def _sends(name: str) -> Wanted:
    return lambda _self, action: type(action.message).__name__ == name


def _reports(*names: str) -> Wanted:
    return lambda _self, report: type(report).__name__ in names


FINAL: Final = ("done", "failed", "rejected", "cancelled")

POINTS: Final[dict[str, CrashPoint]] = {
    "queued: before the journal": CrashPoint(
        "broker", _journal, "_commit", False, _batch_has("Append")
    ),
    "queued: journaled, not said": CrashPoint(
        "broker", _journal, "_commit", True, _batch_has("Append")
    ),
    "queued: said": CrashPoint("broker", _server, "_say", True, _says("queued")),
    "dispatch: decided, not sent": CrashPoint("broker", _server, "_send", False, _sends("Job")),
    "dispatch: sent": CrashPoint("broker", _server, "_send", True, _sends("Job")),
    "accepted: before the journal": CrashPoint(
        "broker", _journal, "_commit", False, _batch_has("Update")
    ),
    "accepted: journaled, not said": CrashPoint(
        "broker", _journal, "_commit", True, _batch_has("Update")
    ),
    "end: before the journal": CrashPoint(
        "broker", _journal, "_commit", False, _batch_has("Finish")
    ),
    "end: journaled, not said": CrashPoint(
        "broker", _journal, "_commit", True, _batch_has("Finish")
    ),
    "end: said, not acknowledged": CrashPoint("broker", _server, "_say", True, _says(*FINAL)),
    "ack: not sent": CrashPoint("broker", _server, "_send", False, _sends("Ack")),
    "start: bound, not announced": CrashPoint("broker", _connection, "write", False),
    "start: announced": CrashPoint("broker", _connection, "write", True),
    "placeholder: before its upload": CrashPoint("worker", _attempt, "_place", False),
    "placeholder: up, not reported": CrashPoint("worker", _attempt, "_place", True),
    "accepted: reported": CrashPoint("worker", _session, "_report", True, _reports("Accepted")),
    "pixels: rendered, not uploaded": CrashPoint("worker", _attempt, "_render", True),
    "result: up, not reported": CrashPoint("worker", _session, "_report", False, _reports("Done")),
    "result: reported": CrashPoint("worker", _session, "_report", True, _reports("Done")),
    "end: failed, not reported": CrashPoint(
        "worker", _session, "_report", False, _reports("Failed", "Rejected", "Returned")
    ),
    "ack: not taken": CrashPoint("worker", _session, "_on_ack", False),
    "submit: sent": CrashPoint("gateway", _submitter, "submit", True),
    "answer: not sent": CrashPoint("gateway", _root, "reply", False),
}


def names_of(part: str) -> list[str]:
    """Return the names of a part's crash points."""
    return [name for name, point in POINTS.items() if point.part == part]


def install(name: str, nth: int, about_to: Strike) -> None:
    """Make this process kill itself at its nth passage of a point.

    Args:
        name: of `POINTS`.
        nth: 1 for the first passage.
        about_to: called right before.
    """
    point = POINTS[name]
    left = nth

    def strike() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            about_to()
            os.kill(os.getpid(), signal.SIGKILL)

    surround(
        point.owner(),
        point.function,
        before=None if point.after else _where(point.wanted, strike),
        after=_where(point.wanted, strike) if point.after else None,
    )


def _where(wanted: Wanted, strike: Strike) -> Callable[..., None]:
    return lambda *args: strike() if wanted(*args) else None


def surround(
    owner: type,
    function: str,
    *,
    before: Callable[..., None] | None = None,
    after: Callable[..., None] | None = None,
) -> None:
    """Call something with the arguments of a method, before it and once it has returned."""
    original = getattr(owner, function)
    quiet: Callable[..., None] = lambda *_: None  # noqa: E731
    first, last = before or quiet, after or quiet

    @functools.wraps(original)
    def plain(*args: Any, **kwargs: Any) -> Any:
        first(*args)
        result = original(*args, **kwargs)
        last(*args)
        return result

    @functools.wraps(original)
    async def waiting(*args: Any, **kwargs: Any) -> Any:
        first(*args)
        result = await original(*args, **kwargs)
        last(*args)
        return result

    setattr(owner, function, waiting if inspect.iscoroutinefunction(original) else plain)

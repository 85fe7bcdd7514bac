"""What an attack is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Arena:
    """What an attack works with.

    Args:
        folder: of its own, empty.
        long: take the time for the whole attack, not only for its first seconds.
    """

    folder: Path
    long: bool


@dataclass(frozen=True, slots=True)
class Result:
    """How an attack ended.

    Args:
        held: whether what must hold did hold.
        figure: what was seen, in a few words with its unit.
    """

    held: bool
    figure: str


Attack = Callable[[Arena], Result]


@dataclass(frozen=True, slots=True)
class Entry:
    """An attack in the list.

    Args:
        name: for the command line.
        who: as the threat model of docs/security.md names them.
        must_hold: one sentence.
        timed: whether it is held off depends on how fast the machine is, so that it is no test.
        run: the attack.
    """

    name: str
    who: str
    must_hold: str
    timed: bool
    run: Attack


ATTACKS: Final[dict[str, Entry]] = {}


def attack(who: str, must_hold: str, *, timed: bool = False) -> Callable[[Attack], Attack]:
    """Put a function into the list under its own name."""

    def enter(run: Attack) -> Attack:
        name = run.__name__.replace("_", "-")
        ATTACKS[name] = Entry(name, who, must_hold, timed, run)
        return run

    return enter

"""What is done to whom and when: drawn from a seed, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What is done."""

    KILL = "kill"  # SIGKILL
    STOP = "stop"  # SIGSTOP, later SIGCONT
    TERM = "term"  # SIGTERM: it drains, and is started again
    DELAY = "delay"
    HOLD = "hold"  # a partition; what was sent is delivered late
    RESET = "reset"
    REFUSE = "refuse"
    DEAF = "deaf"  # existing connections swallow everything, for ever
    HALF_OPEN = "half-open"  # the same in one direction


PROXY_KINDS: Final = (
    Kind.DELAY,
    Kind.HOLD,
    Kind.RESET,
    Kind.REFUSE,
    Kind.DEAF,
    Kind.HALF_OPEN,
)
CHANNELS: Final = ("jobs", "reports", "events", "lane")

KILL_EVERY_S: Final = (1.0, 3.8)
"""Half an hour holds 500 kills and more, even where some find nobody to kill."""

TROUBLE_EVERY_S: Final = (2.0, 6.0)

KILL_WEIGHTS: Final = {"worker": 38, "pixels": 30, "gateway": 16, "broker": 16}
TROUBLE_WEIGHTS: Final = {Kind.STOP: 6, Kind.TERM: 3, **dict.fromkeys(PROXY_KINDS, 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is done.

    Args:
        at_s: seconds after the start.
        target: a part's name (`worker-1`), `pixels of worker-1`, or the peer whose wire it is.
        seconds: how long it lasts; of a delay also what each chunk waits.
        channels: which connections a deaf or half-open wire means.
        directions: which of its directions, `up` and `down`.
    """

    at_s: float
    kind: Kind
    target: str
    seconds: float = 0.0
    channels: tuple[str, ...] = CHANNELS
    directions: tuple[str, ...] = ("up", "down")


def draw(*, seed: int, duration_s: float, workers: Sequence[str], lease_s: float) -> list[Fault]:
    """Return the faults of a run, in order of time."""
    faults = [*_kills(seed, duration_s, workers), *_troubles(seed, duration_s, workers, lease_s)]
    return sorted(faults, key=lambda fault: fault.at_s)


def _kills(seed: int, duration_s: float, workers: Sequence[str]) -> Iterator[Fault]:
    chance = random.Random(f"kills {seed}")  # noqa: S311 (a plan, not a secret)
    at_s = chance.uniform(*KILL_EVERY_S)
    while at_s < duration_s:
        (target,) = chance.choices(list(KILL_WEIGHTS), list(KILL_WEIGHTS.values()))
        if target == "worker":
            target = chance.choice(workers)
        elif target == "pixels":
            target = f"pixels of {chance.choice(workers)}"
        yield Fault(at_s=at_s, kind=Kind.KILL, target=target)
        at_s += chance.uniform(*KILL_EVERY_S)


def _troubles(
    seed: int, duration_s: float, workers: Sequence[str], lease_s: float
) -> Iterator[Fault]:
    chance = random.Random(f"troubles {seed}")  # noqa: S311 (a plan, not a secret)
    at_s = chance.uniform(*TROUBLE_EVERY_S)
    while at_s < duration_s:
        (kind,) = chance.choices(list(TROUBLE_WEIGHTS), list(TROUBLE_WEIGHTS.values()))
        if kind is Kind.STOP:
            yield _stop(chance, at_s, workers, lease_s)
        elif kind is Kind.TERM:
            target = chance.choice(("gateway", "broker", *workers))
            yield Fault(at_s=at_s, kind=kind, target=target)
        else:
            yield _on_wire(chance, at_s, kind, workers, lease_s)
        at_s += chance.uniform(*TROUBLE_EVERY_S)


def _stop(chance: random.Random, at_s: float, workers: Sequence[str], lease_s: float) -> Fault:
    """Mostly a worker, and mostly longer than its lease."""
    target = chance.choice((*workers, *workers, "broker", "gateway"))
    longest = 2.5 * lease_s if target in workers else 1.5 * lease_s
    return Fault(
        at_s=at_s, kind=Kind.STOP, target=target, seconds=chance.uniform(0.2 * lease_s, longest)
    )


def _on_wire(
    chance: random.Random, at_s: float, kind: Kind, workers: Sequence[str], lease_s: float
) -> Fault:
    target = chance.choice(("native", "gateway", *workers))
    seconds = chance.uniform(0.1, 2.5) * lease_s
    if kind is Kind.DELAY:
        seconds = chance.uniform(0.01, 0.3) * lease_s
    if kind not in (Kind.DEAF, Kind.HALF_OPEN):
        return Fault(at_s=at_s, kind=kind, target=target, seconds=seconds)
    chosen = CHANNELS if chance.random() < 0.5 else (chance.choice(CHANNELS),)
    ways = ("up", "down") if kind is Kind.DEAF else (chance.choice(("up", "down")),)
    return Fault(at_s=at_s, kind=kind, target=target, channels=chosen, directions=ways)

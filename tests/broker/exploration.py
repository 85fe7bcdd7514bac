"""Explore every interleaving of a small world, breadth first, to a stated depth.

python -m tests.broker.exploration [depth]
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.broker.world import PromiseBroken, Trouble, World

SETTLE_EVERY = 40
"""One state in so many is let run to its end: that costs as much as a hundred steps."""


@dataclass(frozen=True)
class Explored:
    """How far an exploration came."""

    depth: int
    states: int
    steps: int
    settled: int


class Found(AssertionError):
    """Raised with a readable trace when a promise is broken."""


def explore(root: World, depth: int) -> Explored:
    """Take every step from every state that is new, up to a depth.

    Raises: Found with the shortest trace that breaks a promise.
    """
    beginning = hash(root.key())
    frontier = [(root, beginning)]
    traces: dict[int, tuple[int | None, str]] = {beginning: (None, "the beginning")}
    steps = settled = 0
    for _ in range(depth):
        following = []
        for world, before in frontier:
            for label, step in world.choices():
                steps += 1
                twin = world.clone()
                try:
                    step(twin)
                    twin.check()
                    key = hash(twin.key())
                    if key in traces:
                        continue
                    traces[key] = (before, label)
                    if len(traces) % SETTLE_EVERY == 0:
                        settled += 1
                        twin.clone().settle()
                except Exception as exc:
                    raise Found(_story(traces, before, label, exc)) from exc
                following.append((twin, key))
        frontier = following
    return Explored(depth, len(traces), steps, settled)


def _story(
    traces: dict[int, tuple[int | None, str]], key: int | None, label: str, exc: Exception
) -> str:
    lines = [label]
    while key is not None:
        key, label = traces[key]
        lines.append(label)
    steps = [f"  {number:2}. {line}" for number, line in enumerate(reversed(lines))]
    broken = str(exc) if isinstance(exc, PromiseBroken) else f"{type(exc).__name__}: {exc}"
    return "\n".join([f"broken: {broken}", *steps])


def two_running(trouble: Trouble) -> World:
    """Two jobs, two workers with a slot each; both jobs are on their lanes."""
    world = World(("a", "b"), {"w1": 1, "w2": 1}, trouble)
    _begin(world)
    return world


def one_waiting(trouble: Trouble) -> World:
    """Two jobs for one slot: the second worker has yet to join."""
    world = World(("a", "b"), {"w1": 1, "w2": 1}, trouble)
    _begin(world, joined=("w1",))
    return world


def two_submitted(trouble: Trouble) -> World:
    """Two jobs on their way to the disk, two workers there, one with both slots."""
    world = World(("a", "b"), {"w1": 2, "w2": 1}, trouble)
    _begin(world, committed=False)
    return world


def _begin(world: World, *, joined: tuple[str, ...] = ("w1", "w2"), committed: bool = True) -> None:
    for name in joined:
        world.join(name)
        world.read_lane(name)
    for job_id in world.job_ids:
        world.submit(job_id)
    if committed:
        world.commit()
    world.check()


ROOTS: dict[str, Callable[[Trouble], World]] = {
    "two running": two_running,
    "one waiting": one_waiting,
    "two submitted": two_submitted,
}


def main(depth: int) -> None:
    """Explore from every beginning and print how far it came."""
    logging.disable()
    for name, root in ROOTS.items():
        start_s = time.monotonic()
        found = explore(root(Trouble()), depth)
        took_s = time.monotonic() - start_s
        print(  # noqa: T201 (a tool to run by hand)
            f"{name}: depth {found.depth}, {found.states} states, {found.steps} steps, "
            f"{found.settled} run to their end, {took_s:.1f} s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)

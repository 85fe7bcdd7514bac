"""The bell: at once while little goes on, many messages a turn under load, never a busy loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import zmq

from imgserve.broker.bell import LONGEST_PAUSE_S, Bell, Door
from tests.broker.core_bench import Bench

ENOUGH = 12


class Turns:
    """A bell on one PULL socket, its turns, and how often the loop was woken."""

    def __init__(self, puller: zmq.Socket[bytes], pusher: zmq.Socket[bytes]) -> None:
        self.hurried = True
        self.taken: list[int] = []
        self.began_s: list[float] = []
        self.pullers, self._pusher = [puller], pusher
        self.bell = Bell(
            [Door([puller], lambda: self.hurried)], turn=self._turn, enough=lambda: ENOUGH
        )

    def send(self, count: int = 1) -> None:
        """Let so many messages come."""
        for _ in range(count):
            self._pusher.send(b"x")

    async def all_taken(self, count: int) -> None:
        """Wait until so many messages were taken."""
        async with asyncio.timeout(10):
            while sum(self.taken) < count:  # noqa: ASYNC110 (a test's poll)
                await asyncio.sleep(0.001)

    def _turn(self) -> int:
        self.began_s.append(asyncio.get_running_loop().time())
        count = 0
        for puller in self.pullers:
            while puller.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                puller.recv()
                count += 1
        self.taken.append(count)
        return count


@asynccontextmanager
async def turns() -> AsyncIterator[Turns]:
    """Run a bell for the length of a block."""
    with zmq.Context() as context, context.socket(zmq.PULL) as puller:
        port = puller.bind_to_random_port("tcp://127.0.0.1")
        with context.socket(zmq.PUSH) as pusher:
            pusher.connect(f"tcp://127.0.0.1:{port}")
            made = Turns(puller, pusher)
            try:
                yield made
            finally:
                made.bell.close()


async def _one_by_one(made: Turns, count: int) -> list[float]:
    """Send each message when the one before was taken; returns the seconds between the turns."""
    for _ in range(count):
        made.send()
        await made.all_taken(sum(made.taken) + 1)
    return [after - before for before, after in pairwise(made.began_s[-count:])]


def test_a_lone_message_is_taken_at_once():
    """Nobody waits for company while there is none."""

    async def scenario() -> None:
        async with turns() as made:
            assert min(await _one_by_one(made, 20)) < LONGEST_PAUSE_S / 4

    asyncio.run(scenario())


def test_under_load_turns_keep_a_distance_and_messages_share_them():
    """What comes within the pause is taken together."""

    async def scenario() -> None:
        async with turns() as made:
            made.hurried = False
            await _one_by_one(made, 3)
            assert min(await _one_by_one(made, 10)) > 0.9 * LONGEST_PAUSE_S
            before = len(made.taken)
            made.send(8)
            await made.all_taken(sum(made.taken) + 8)
            assert len(made.taken) - before < 4

    asyncio.run(scenario())


def test_the_pause_is_as_long_as_enough_messages_take():
    """A flood is not held up: the pause shrinks as the rate grows."""

    async def scenario() -> None:
        async with turns() as made:
            made.hurried = False
            made.send(50 * ENOUGH)
            await made.all_taken(50 * ENOUGH)
            await asyncio.sleep(LONGEST_PAUSE_S)
            for _ in range(20):
                made.send(ENOUGH)
                await asyncio.sleep(0.001)
            await made.all_taken(70 * ENOUGH)
            assert made.bell.pause_s < LONGEST_PAUSE_S

    asyncio.run(scenario())


def test_a_postponed_turn_does_not_keep_the_loop_busy():
    """The socket tells of its message all along; nobody is woken by it before the turn."""

    async def scenario() -> None:
        async with turns() as made:
            asked = 0

            def hurried() -> bool:
                nonlocal asked
                asked += 1
                return False

            await _one_by_one(made, 2)
            made.bell = _asked_by(made, hurried)
            made.send()
            await made.all_taken(3)
            made.send()
            await made.all_taken(4)
            assert asked < 12

    asyncio.run(scenario())


def _asked_by(made: Turns, hurried: Callable[[], bool]) -> Bell:
    made.bell.close()
    return Bell([Door([made.pullers[0]], hurried)], turn=made._turn, enough=lambda: ENOUGH)


def test_what_a_turn_left_behind_is_taken_at_once():
    """A turn at its limit knows that there is more."""

    async def scenario() -> None:
        async with turns() as made:
            made.hurried = False
            await _one_by_one(made, 3)
            before = len(made.began_s)
            made.bell.ring(at_once=True)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(made.began_s) == before + 1

    asyncio.run(scenario())


def test_a_closed_bell_is_silent():
    """Also when a turn was due."""

    async def scenario() -> None:
        async with turns() as made:
            made.bell.ring()
            made.bell.close()
            made.send()
            await asyncio.sleep(0.05)
            assert made.taken == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("slots", "jobs", "supplied"),
    [(16, 7, False), (16, 8, True), (4, 30, False), (0, 30, False)],
)
def test_messages_wait_only_where_every_worker_has_jobs(slots, jobs, supplied):
    """A worker of few slots would idle, and where few jobs are under way somebody waits."""
    bench = Bench()
    if slots:
        bench.join("w1", slots=slots)
    for number in range(jobs):
        bench.submit(f"j{number}")
    assert bench.core.well_supplied is supplied


@pytest.mark.parametrize(("slots", "jobs", "passing"), [(16, 8, 1), (16, 16, 2), (16, 99, 8)])
def test_turns_are_apart_by_a_share_of_what_goes_on(slots, jobs, passing):
    """Few jobs are answered soon, so their messages wait less; many must not empty the slots."""
    bench = Bench()
    bench.join("w1", slots=slots)
    for number in range(jobs):
        bench.submit(f"j{number}")
    assert bench.core.jobs_between_turns == passing


def test_the_slots_of_a_worker_that_left_no_longer_count():
    """Else the others would wait for its messages."""
    bench = Bench()
    bench.join("w1", slots=8)
    bench.join("w2", slots=2)
    for number in range(30):
        bench.submit(f"j{number}")
    assert not bench.core.well_supplied
    bench.core.fleet.remove("w2")
    assert bench.core.well_supplied


def test_a_hurried_door_does_not_wait_for_a_patient_one():
    """A submit comes while the beats of an idle fleet wait for each other."""

    async def scenario() -> None:
        async with turns() as made:
            (patient,) = made.pullers
            with zmq.Context() as context, context.socket(zmq.PULL) as hurried:
                port = hurried.bind_to_random_port("tcp://127.0.0.1")
                made.bell.close()
                doors = [Door([hurried], lambda: True), Door([patient], lambda: False)]
                made.bell = Bell(doors, turn=made._turn, enough=lambda: ENOUGH)
                made.pullers.append(hurried)
                made.bell.ring()
                await asyncio.sleep(5 * LONGEST_PAUSE_S)  # what connecting brought is over
                made.bell.pause_s = 60
                began = len(made.began_s)
                made.send()
                await asyncio.sleep(0.1)
                assert len(made.began_s) == began
                with context.socket(zmq.PUSH) as pusher:
                    pusher.connect(f"tcp://127.0.0.1:{port}")
                    pusher.send(b"x")
                    await made.all_taken(1)
                made.bell.close()

    asyncio.run(scenario())

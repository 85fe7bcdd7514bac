"""One incarnation against scripted messages, without sockets or a real clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from imgserve.protocol.events import BrokerBeat, TurnedAway, Welcome
from imgserve.protocol.lane import Ack, CancelJob, Job
from imgserve.protocol.reports import Beat, Bye, Hello, ReportsMessage
from imgserve.worker.fence import Fence
from imgserve.worker.session import JOIN_LIMIT_S, Ending, Session
from tests.support.job_fakes import Script, a_job, tools_of

Kind = TypeVar("Kind")
HELLO = Hello("i", "host", 1, 2, "test", ())


class Worker:
    """A session with scripted jobs; it is its own wire, and its clock moves when told.

    Attributes:
        sent: what it said, in order.
        room: whether the wire takes anything.
    """

    def __init__(self, script: Script | None = None, **options: Any) -> None:
        self.script = script or Script()
        self.now_s = 100.0
        self.sent: list[ReportsMessage] = []
        self.lanes: list[str] = []
        self.room = True
        tools = tools_of(self.script, clock=lambda: self.now_s)
        self.session = Session(
            HELLO, tools, drain_timeout_s=options.get("drain_timeout_s", 60.0), fence=Fence()
        )
        moved = options.get("moved", lambda: False)
        self.life = asyncio.ensure_future(self.session.run(self, moved=moved))

    def open_lane(self, endpoint: str) -> None:
        """As a wire."""
        self.lanes.append(endpoint)

    def send(self, message: ReportsMessage) -> bool:
        """As a wire."""
        self.sent += [message] if self.room else []
        return self.room

    def linger(self) -> None:
        """As a wire."""

    def said(self, kind: type[Kind]) -> list[Kind]:
        """What it said of a kind."""
        return [message for message in self.sent if isinstance(message, kind)]

    def finals(self) -> list[tuple[str, int, str]]:
        """Job, attempt and kind of the final reports it said."""
        return [
            (message.job_id, message.attempt, message.KIND)  # type: ignore[union-attr]
            for message in self.sent
            if message.KIND in ("done", "failed", "rejected", "returned")
        ]

    async def settle(self) -> None:
        """Let everything run that can."""
        for _ in range(60):
            await asyncio.sleep(0)

    async def join(self, *, confirm: bool = True) -> None:
        """Welcome it, and acknowledge its first beat."""
        await self.settle()
        self.session.on_event(Welcome("e", "i", "tcp://lane:1", 5.0, 1.0))
        await self.settle()
        if confirm:
            await self.ack_beats()

    async def ack_beats(self) -> None:
        """Acknowledge every beat so far."""
        self.session.on_lane(Ack("e", tuple(beat.seq for beat in self.said(Beat))))
        await self.settle()

    async def ack_all(self) -> None:
        """Acknowledge everything so far."""
        seqs = tuple(getattr(message, "seq", 0) for message in self.sent)
        self.session.on_lane(Ack("e", seqs))
        await self.settle()

    async def give(self, *jobs: Job) -> None:
        """Send jobs on the lane."""
        for job in jobs:
            self.session.on_lane(job)
        await self.settle()

    async def end(self) -> Ending:
        """Wait for its end."""
        return await asyncio.wait_for(self.life, 5)


def scenario(
    play: Callable[..., Coroutine[Any, Any, None]], script: Script | None = None, **options: Any
) -> None:
    """Play a scenario with a fresh worker, and end it."""

    async def run() -> None:
        worker = Worker(script, **options)
        try:
            await asyncio.wait_for(play(worker), 10)
        finally:
            worker.life.cancel()
            await asyncio.wait([worker.life])

    asyncio.run(run())


def test_nothing_is_begun_before_the_first_beat_is_acknowledged():
    """A welcome may have been long on its way, so jobs wait until the lease is confirmed."""

    async def play(worker: Worker) -> None:
        await worker.join(confirm=False)
        await worker.give(a_job())
        assert worker.script.reached == []
        worker.session.on_lane(Ack("e", (99,)))
        await worker.settle()
        assert worker.script.reached == []
        await worker.ack_beats()
        assert worker.finals() == [("j", 1, "done")]

    scenario(play)


def test_a_newer_attempt_ends_the_older():
    """A job given again is done once: the older attempt says nothing more."""

    async def play(worker: Worker) -> None:
        await worker.join()
        worker.script.gates["body"] = asyncio.Event()
        await worker.give(a_job(attempt=1))
        assert worker.script.reached[-1] == "body"
        await worker.give(a_job(attempt=2, accepted=True))
        await worker.give(a_job(attempt=1))
        assert worker.script.aborted == ["body"]
        worker.script.gates["body"].set()
        await worker.settle()
        assert worker.finals() == [("j", 2, "done")]

    scenario(play)


def test_more_jobs_than_slots_are_not_taken():
    """A job without a free slot is left to be sent again; a final report frees its slot."""

    async def play(worker: Worker) -> None:
        await worker.join()
        gate = worker.script.gates["head"] = asyncio.Event()
        await worker.give(*(a_job(job_id=name) for name in ("a", "b", "c")))
        assert worker.script.reached == ["head", "head"]
        gate.set()
        await worker.settle()
        assert len(worker.finals()) == 2
        await worker.give(a_job(job_id="c"))
        assert [job_id for job_id, _, _ in worker.finals()] == ["a", "b", "c"]

    scenario(play)


def test_a_job_is_listed_until_its_final_report_is_acknowledged():
    """Beats name what is held, and what the broker may not know to be over."""

    async def play(worker: Worker) -> None:
        await worker.join()
        await worker.give(a_job(job_id="a", attempt=4))
        worker.now_s += 1.0
        worker.session.drain("to make it beat now")
        await worker.settle()
        assert worker.said(Beat)[-1].running == (("a", 4),)

    scenario(play)


def test_an_acknowledged_acceptance_leaves_the_job_held():
    """Only the final report's acknowledgement lets a job go; until then it is not begun again."""

    async def play(worker: Worker) -> None:
        await worker.join()
        gate = worker.script.gates["body"] = asyncio.Event()
        await worker.give(a_job())
        await worker.ack_all()
        await worker.give(a_job())
        assert worker.script.reached.count("head") == 1
        gate.set()
        await worker.settle()
        assert worker.finals() == [("j", 1, "done")]

    scenario(play)


def test_only_the_attempt_that_runs_can_be_cancelled():
    """A cancellation of another attempt or epoch changes nothing."""

    async def play(worker: Worker) -> None:
        await worker.join()
        worker.script.gates["head"] = asyncio.Event()
        await worker.give(a_job(attempt=2))
        for other in (CancelJob("e", "j", 1), CancelJob("old", "j", 2), CancelJob("e", "k", 2)):
            worker.session.on_lane(other)
        await worker.settle()
        assert worker.finals() == []
        worker.session.on_lane(CancelJob("e", "j", 2))
        await worker.settle()
        assert worker.finals() == [("j", 2, "failed")]

    scenario(play)


@pytest.mark.parametrize(
    ("event", "ending"),
    [
        (BrokerBeat("another", 1.0, full=False), Ending.LOST),
        (TurnedAway("e", "i", False, "too slow"), Ending.LOST),
        (TurnedAway("e", "i", True, "too old"), Ending.TURNED_AWAY),
    ],
)
def test_what_ends_an_incarnation_abandons_its_jobs(event, ending):
    """Another epoch or a refusal ends everything that runs, and nothing is reported."""

    async def play(worker: Worker) -> None:
        await worker.join()
        worker.script.gates["body"] = asyncio.Event()
        await worker.give(a_job())
        worker.session.on_event(event)
        assert await worker.end() is ending
        assert worker.script.aborted == ["body"]
        assert worker.finals() == []
        assert worker.said(Bye) == []

    scenario(play)


@pytest.mark.parametrize(
    "event", [BrokerBeat("e", 1.0, full=True), TurnedAway("e", "somebody", True, "not you")]
)
def test_what_is_not_meant_for_it_changes_nothing(event):
    """A beat of its own epoch and a refusal of another incarnation leave it alone."""

    async def play(worker: Worker) -> None:
        await worker.join()
        worker.session.on_event(event)
        await worker.settle()
        assert not worker.life.done()

    scenario(play)


def test_a_worker_that_is_not_acknowledged_gives_up_before_its_broker():
    """At four fifths of the lease the incarnation is over, jobs and all."""

    async def play(worker: Worker) -> None:
        await worker.join()
        worker.script.gates["body"] = asyncio.Event()
        await worker.give(a_job())
        worker.now_s += 4.0
        assert await worker.end() is Ending.LOST
        assert worker.script.aborted == ["body"]

    scenario(play)


def test_a_worker_not_yet_welcomed_drains_at_once():
    """Asked to end while it waits for a welcome, a worker says bye and ends."""

    async def play(worker: Worker) -> None:
        await worker.settle()
        worker.session.drain("now")
        assert await worker.end() is Ending.DRAINED
        assert len(worker.said(Bye)) == 1

    scenario(play)


def test_a_draining_worker_that_is_lost_ends():
    """A worker that was asked to end does not come back when its broker does."""

    async def play(worker: Worker) -> None:
        await worker.join()
        worker.script.gates["pixels"] = asyncio.Event()
        await worker.give(a_job())
        worker.session.drain("now")
        worker.session.on_event(BrokerBeat("another", 1.0, full=False))
        assert await worker.end() is Ending.DRAINED

    scenario(play)


def test_a_draining_worker_gives_a_job_back_only_once():
    """A job that comes back to a draining worker is left for `bye`, so no attempts are burnt."""

    async def play(worker: Worker) -> None:
        await worker.join()
        worker.script.gates["pixels"] = asyncio.Event()
        await worker.give(a_job(job_id="kept"))
        worker.session.drain("now")
        await worker.settle()
        for attempt in (1, 2, 3):
            await worker.give(a_job(job_id="late", attempt=attempt))
            await worker.ack_all()
        assert worker.finals() == [("late", 1, "returned")]

    scenario(play)


def test_a_drained_worker_waits_for_its_last_acknowledgements():
    """It says bye when everything is acknowledged, not before."""

    async def play(worker: Worker) -> None:
        await worker.join()
        await worker.give(a_job())
        worker.session.drain("now")
        await worker.settle()
        assert not worker.life.done()
        await worker.ack_all()
        assert await worker.end() is Ending.DRAINED

    scenario(play)


def test_a_hello_that_is_never_answered_ends_the_incarnation():
    """Its connections may be dead without a sign; the next incarnation opens others."""

    async def play(worker: Worker) -> None:
        await worker.settle()
        assert not worker.life.done()
        worker.now_s += JOIN_LIMIT_S
        assert await worker.end() is Ending.LOST

    scenario(play)


def test_a_broker_that_moved_is_looked_for_again():
    """A hello without an answer, and another connection file, end the incarnation."""

    async def play(worker: Worker) -> None:
        assert await worker.end() is Ending.LOST
        assert len(worker.said(Hello)) == 1

    scenario(play, moved=lambda: True)

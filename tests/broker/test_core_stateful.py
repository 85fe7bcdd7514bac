"""Hypothesis drives larger populations through the same world as the exhaustive exploration."""

from __future__ import annotations

import logging

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.broker.world import Trouble, World

TROUBLE = Trouble(*[8] * 6)


class Population(RuleBasedStateMachine):
    """Up to nine jobs and four workers; Hypothesis picks what happens next."""

    @initialize(
        priorities=st.lists(st.integers(-2, 2), min_size=1, max_size=9),
        slots=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    )
    def begin(self, priorities: list[int], slots: list[int]) -> None:
        """No worker has joined and nothing is submitted."""
        logging.disable()
        names = tuple(f"j{number}" for number in range(len(priorities)))
        self.world = World(names, {f"w{n}": each for n, each in enumerate(slots)}, TROUBLE)
        self.world.priorities = dict(zip(names, priorities, strict=True))

    @rule(data=st.data())
    def anything(self, data: st.DataObject) -> None:
        """One step, whichever."""
        self._take(data, "")

    @precondition(lambda self: any("joins" in label for label, _ in self.world.choices()))
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        """A worker joins."""
        self._take(data, "joins")

    @precondition(lambda self: any("submitted" in label for label, _ in self.world.choices()))
    @rule(data=st.data())
    def submit(self, data: st.DataObject) -> None:
        """A job is submitted."""
        self._take(data, "submitted")

    @rule()
    def progress(self) -> None:
        """The journal commits, lanes are read and reports arrive: what mostly happens."""
        if self.world.journal.pending:
            self.world.commit()
        for name, worker in self.world.workers.items():
            if worker.inbox:
                self.world.read_lane(name)
        while self.world.network:
            self.world.arrive(0)

    def _take(self, data: st.DataObject, what: str) -> None:
        steps = [step for step in self.world.choices() if what in step[0]]
        _, step = data.draw(st.sampled_from(steps).map(_Named), label="next")
        step(self.world)

    @invariant()
    def promises_hold(self) -> None:
        """Every state keeps the promises."""
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        """Once nothing more goes wrong every job ends."""
        try:
            if hasattr(self, "world"):
                self.world.settle(rounds=200)
        finally:
            logging.disable(logging.NOTSET)


class _Named(tuple):
    """A step that shows as its label in Hypothesis' report."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self[0])


Population.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestPopulation = Population.TestCase

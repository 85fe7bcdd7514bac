"""The age of finished jobs, with clocks handed in."""

from __future__ import annotations

import pytest

from imgserve.broker.retention import RetentionClock, most_at_once


class Clocks:
    """A machine's clocks."""

    def __init__(self) -> None:
        self.wall_s, self.monotonic_s = 1_000_000.0, 50.0

    def pass_time(self, seconds: float) -> None:
        """Both go on."""
        self.wall_s += seconds
        self.monotonic_s += seconds


@pytest.fixture
def clocks() -> Clocks:
    """Those of a machine whose wall clock is right."""
    return Clocks()


@pytest.fixture
def clock(clocks: Clocks) -> RetentionClock:
    """The clock of a journal on that machine."""
    return RetentionClock(lambda: clocks.wall_s, lambda: clocks.monotonic_s)


def test_time_passes(clock, clocks):
    """As on the wall."""
    clocks.pass_time(90_000)
    assert clock.now_s() == 1_090_000


def test_a_wall_clock_put_ahead_ages_nothing(clock, clocks):
    """And neither does one that is put right again."""
    clocks.wall_s += 25 * 3600
    clocks.pass_time(13)
    assert clock.now_s() == 1_000_013
    clocks.wall_s -= 25 * 3600
    assert clock.now_s() == 1_000_013


def test_a_wall_clock_put_back_keeps_jobs_longer(clock, clocks):
    """What ended after that has a time of that clock."""
    clocks.wall_s -= 3600
    clocks.pass_time(10)
    assert clock.now_s() == 1_000_000 - 3600 + 10


def test_a_life_that_began_ahead_comes_back_with_the_wall_clock(clocks):
    """Its first idea of the time was wrong, and does not stay."""
    clocks.wall_s += 25 * 3600
    clock = RetentionClock(lambda: clocks.wall_s, lambda: clocks.monotonic_s)
    clocks.wall_s -= 25 * 3600
    assert clock.now_s() == 1_000_000


@pytest.mark.parametrize(
    ("finished", "most"), [(0, 0), (1, 1), (100, 1), (1_000, 10), (10_000_000, 5_000)]
)
def test_one_pass_forgets_a_bounded_share(finished, most):
    """A hundredth, so that the wall clock may be put right in time; never less than one."""
    assert most_at_once(finished, 5_000) == most

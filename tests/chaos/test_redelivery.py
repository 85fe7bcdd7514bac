"""Redelivery is measured from a worker's death to the next dispatch of what it held."""

from __future__ import annotations

from typing import Any

from scripts.chaos_lib.redelivery import Death, Redelivery, redeliveries


def join(t: float, incarnation: str, pid: int) -> dict[str, Any]:
    """A worker gets its lane."""
    return {"t": t, "what": "join", "incarnation": incarnation, "pid": pid}


def dispatch(t: float, job: str, attempt: int, incarnation: str) -> dict[str, Any]:
    """A job goes to a worker."""
    return {"t": t, "what": "dispatch", "job": job, "attempt": attempt, "incarnation": incarnation}


JOINS = [join(0, "a", 1), join(0, "b", 2)]


def test_the_time_runs_from_the_death():
    """Only a job that the dead worker held counts, from the death to its next attempt."""
    lines = [*JOINS, dispatch(1, "x", 1, "a"), dispatch(1, "y", 1, "b"), dispatch(5, "x", 2, "b")]
    assert redeliveries(lines, [Death(1, 3.0)], []) == [Redelivery("x", 2.0, clean=True)]


def test_other_trouble_makes_it_unclean():
    """A redelivery amid other trouble is kept apart."""
    lines = [*JOINS, dispatch(1, "x", 1, "a"), dispatch(5, "x", 2, "b")]
    (found,) = redeliveries(lines, [Death(1, 3.0)], [(0.0, 0.5), (4.0, 4.5)])
    assert not found.clean


def test_trouble_that_was_over_leaves_it_clean():
    """Trouble before the first dispatch does not count."""
    lines = [*JOINS, dispatch(1, "x", 1, "a"), dispatch(5, "x", 2, "b")]
    (found,) = redeliveries(lines, [Death(1, 3.0)], [(0.0, 0.5), (6.0, 7.0)])
    assert found.clean


def test_a_resent_attempt_is_no_redelivery():
    """The same attempt sent again is a lost lane message, not a new attempt."""
    lines = [*JOINS, dispatch(1, "x", 1, "a"), dispatch(4, "x", 1, "a")]
    assert redeliveries(lines, [Death(1, 3.0)], []) == []


def test_without_another_worker_it_is_unclean():
    """Nobody could take the job at once: the other worker was dead, or had not joined again."""
    lines = [*JOINS, dispatch(1, "x", 1, "a"), dispatch(5, "x", 2, "b")]
    for deaths, broker_deaths in (
        ([Death(1, 3.0), Death(2, 0.5)], []),
        ([Death(1, 3.0), Death(2, 4.0)], []),
        ([Death(1, 3.0)], [0.5]),
    ):
        (found,) = redeliveries(lines, deaths, [], broker_deaths)
        assert not found.clean

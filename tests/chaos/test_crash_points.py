"""Crash points name functions that exist, and kill a process at the passage that was asked for."""

from __future__ import annotations

import inspect
import os
import signal

import pytest

from scripts.chaos_lib.crash_points import POINTS, install, surround


@pytest.mark.parametrize("name", POINTS)
def test_a_point_names_a_function(name):
    """What a crash point is put around is there: a rename must not turn chaos off.

    Nor may other arguments: what picks the passages takes those of the method.
    """
    point = POINTS[name]
    method = inspect.signature(getattr(point.owner(), point.function))
    inspect.signature(point.wanted).bind(*method.parameters)


def test_surround_runs_before_and_after():
    """What is put around a method sees its arguments, and the method still does its work."""
    seen = []

    class Part:
        def work(self, number):
            seen.append(number)
            return 2 * number

    surround(
        Part,
        "work",
        before=lambda _self, number: seen.append(f"before {number}"),
        after=lambda _self, number: seen.append(f"after {number}"),
    )
    assert Part().work(4) == 8
    assert seen == ["before 4", 4, "after 4"]


def test_the_nth_passage_kills():
    """The process dies by SIGKILL at the second passage of its point, not at the first."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _pass_twice(writing)
    os.close(writing)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"first passage, about to die"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _pass_twice(pipe: int) -> None:
    try:
        install("ack: not taken", 2, lambda: os.write(pipe, b"about to die"))
        handler = vars(POINTS["ack: not taken"].owner())["_on_ack"]
        for passage in (b"first passage, ", b"second passage"):
            try:
                handler(None, None)
            except AttributeError:  # there is no session; only the way in matters here
                os.write(pipe, passage)
    finally:
        os._exit(0)

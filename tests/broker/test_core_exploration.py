"""Every interleaving of a small world keeps the promises, to a stated depth.

TEST_EXPLORE_DEEPER=n goes n steps deeper; each costs five times as much.
"""

from __future__ import annotations

import logging
import os

import pytest

from tests.broker.exploration import ROOTS, Found, explore
from tests.broker.world import PromiseBroken, Trouble, World

DEEPER = int(os.environ.get("TEST_EXPLORE_DEEPER", "0"))
CALM = Trouble(0, 0, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def _quiet():
    """Thousands of lost workers are no news."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("root", ROOTS)
def test_no_interleaving_breaks_a_promise_whatever_goes_wrong(root):
    """Crashes, losses, repeats, cancels and returns, one of each, in any order."""
    found = explore(ROOTS[root](Trouble()), 4 + DEEPER)
    assert found.states > 1000


@pytest.mark.parametrize(
    ("trouble", "depth"),
    [
        pytest.param(CALM, 7, id="nothing"),
        pytest.param(Trouble(1, 0, 1, 0, 0, 0), 5, id="a worker's crash and a loss"),
        pytest.param(Trouble(0, 1, 0, 0, 1, 0), 5, id="a broker's crash and a cancel"),
        pytest.param(Trouble(0, 0, 0, 1, 0, 1), 5, id="a return and a repeat"),
    ],
)
def test_no_interleaving_breaks_a_promise_when_little_goes_wrong(trouble, depth):
    """Less trouble, more depth."""
    found = explore(ROOTS["two running"](trouble), depth + DEEPER)
    assert found.states > 1000


def test_a_broken_promise_is_told_as_a_trace(monkeypatch):
    """The shortest way to it, step by step."""
    monkeypatch.setattr(World, "_check_owners", _no_second_placeholder)
    with pytest.raises(Found) as caught:
        explore(ROOTS["two running"](CALM), 4)
    story = str(caught.value).splitlines()
    assert story[0] == "broken: b has a placeholder"
    assert story[1].endswith("the beginning")
    assert story[2:] == ["   1. w2 reads its lane", "   2. w2 uploads b's placeholder"]


def _no_second_placeholder(world: World, job_id: str) -> None:
    if job_id == "b" and job_id in world.uploaded:
        raise PromiseBroken(f"{job_id} has a placeholder")

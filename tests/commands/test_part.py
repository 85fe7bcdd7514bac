"""A part's restarts: how soon, and how it ends between two lives."""

from __future__ import annotations

import asyncio
import time

from imgserve.commands.part import LONGEST_DELAY_S, Backoff, Part


def test_the_first_restart_is_at_once_and_later_ones_wait_longer():
    """Delays are 0, 1, 2, 4, … seconds, up to the longest."""
    backoff = Backoff()
    delays = [backoff.delay_s(0.1) for _ in range(8)]
    assert delays == [0, 1, 2, 4, 8, 16, 30, 30]
    assert delays[-1] == LONGEST_DELAY_S


def test_a_healthy_life_resets_the_delay():
    """After a life that went beyond the start the next restart is at once again."""
    backoff = Backoff()
    for _ in range(5):
        backoff.delay_s(0.1)
    assert backoff.delay_s(2.9) == 16
    assert backoff.delay_s(3) == 0


def test_stop_between_two_lives_does_not_wait_for_the_next():
    """A part that waits for its next start ends at once when it is stopped."""

    async def scenario():
        changes = []
        # No command but a part takes --parent, so this one dies, is started again and waits.
        part = Part("help", [], changed=lambda: changes.append(part.pid))
        part.start()
        while part.restarts < 1 or part.pid is not None:  # noqa: ASYNC110 (no event for it)
            await asyncio.sleep(0.01)
        began_s = time.monotonic()
        await part.stop(grace_s=30)
        assert time.monotonic() - began_s < 0.9
        assert part.pid is None

    asyncio.run(asyncio.wait_for(scenario(), 30))

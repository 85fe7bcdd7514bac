"""The fence: after its lease no byte of a worker may reach a destination, however it woke up.

A worker that was stopped (SIGSTOP, a paused machine, a long swap) wakes with sockets ready to
send, and an event loop runs what the sockets are ready for before any timer that would have ended
the lease. So the fence stands in the selector, ahead of both; transfers in threads ask it
themselves.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable


class Fence:
    """Whether uploads may go on; closed until a session opens it."""

    def __init__(self) -> None:
        self._holds: Callable[[], bool] = lambda: False
        self._end: Callable[[], None] | None = None

    def guard(self, holds: Callable[[], bool], end: Callable[[], None]) -> None:
        """Stand guard for one session.

        Args:
            holds: whether its lease holds now; also called from threads.
            end: called once, in the loop's thread, as soon as it does not.
        """
        self._holds, self._end = holds, end

    def open(self) -> bool:
        """Whether bytes may be sent and files renamed now."""
        return self._holds()

    def let_through(self) -> bool:
        """Whether the loop may run what its sockets are ready for; ends the session if not."""
        if self._end is None or self._holds():
            return True
        end, self._end = self._end, None
        end()
        return False


class FencedSelector(selectors.DefaultSelector):
    """Holds back what is ready once, so that the session's end runs first."""

    def __init__(self) -> None:
        super().__init__()
        self.fence = Fence()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as always; the kernel says again what is held back now."""
        ready = super().select(timeout)
        return ready if self.fence.let_through() else []


class FencedEventLoop(asyncio.SelectorEventLoop):
    """An event loop with a fence."""

    def __init__(self) -> None:
        selector = FencedSelector()
        self.fence = selector.fence
        super().__init__(selector)


def running_fence() -> Fence:
    """Return the fence of the running loop; a loop without one gets one that only threads ask."""
    loop = asyncio.get_running_loop()
    return loop.fence if isinstance(loop, FencedEventLoop) else Fence()

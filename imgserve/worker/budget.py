"""The memory that sources, and results, may take in one worker."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self


class MemoryBudget:
    """Divides the worker's memory for sources, or for results, among its jobs.

    Half of it is the slots' own: each job may always hold `allowance_bytes`, and most pictures
    need no more and never wait. The other half is shared by larger ones, first come, first
    served. A job holds at most one reservation, and one alone always fits: nothing waits for ever.

    Args:
        total_bytes: for all of them together.
        slots: how many jobs the worker holds at most.
        own_part: the slots' own memory is the total divided by this; half of it by default.
    """

    def __init__(self, total_bytes: int, slots: int, *, own_part: int = 2) -> None:
        self.allowance_bytes = max(1, total_bytes // (own_part * slots))
        self._shared_bytes = max(1, total_bytes - slots * self.allowance_bytes)
        self._free_bytes = self._shared_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __repr__(self) -> str:
        return f"<MemoryBudget {self._free_bytes} bytes free, {len(self._waiting)} wait>"

    async def reserve(self, size_bytes: int) -> int:
        """Wait until so much of the shared half is free, in order of arrival.

        Returns: what was reserved, for `release`: less than asked where the whole half is less.
        """
        size_bytes = min(size_bytes, self._shared_bytes)
        if not self._waiting and size_bytes <= self._free_bytes:
            self._free_bytes -= size_bytes
            return size_bytes
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size_bytes, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._serve()
            else:  # its turn came in the same moment
                self.release(size_bytes)
            raise
        return size_bytes

    def release(self, size_bytes: int) -> None:
        """Give a reservation back."""
        self._free_bytes += size_bytes
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free_bytes:
            size_bytes, turn = self._waiting.popleft()
            self._free_bytes -= size_bytes
            turn.set_result(None)


class Room:
    """What one result takes of a budget, as a context manager.

    The room is taken before there is a result: one that waited for room would fill the memory.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._reserved_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._budget.release(self._reserved_bytes)

    async def take(self, most_bytes: int) -> None:
        """Wait until a result of this size has room."""
        if most_bytes > self._budget.allowance_bytes:
            self._reserved_bytes = await self._budget.reserve(most_bytes)

    def keep(self, size_bytes: int) -> None:
        """Give back what the result does not take; it may take more than was foreseen."""
        kept_bytes = size_bytes if size_bytes > self._budget.allowance_bytes else 0
        self._budget.release(self._reserved_bytes - kept_bytes)
        self._reserved_bytes = kept_bytes

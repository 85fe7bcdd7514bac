"""Placeholders kept ready: least recently used out first, equal requests share one rendering."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from imgserve.request import ImageKind
from imgserve.worker.pixels.settings import Rendered, Text


@dataclass(frozen=True, slots=True)
class PlaceholderKey:
    """What makes two placeholders the same."""

    kind: ImageKind
    width_px: int
    height_px: int
    text: Text


class PlaceholderCache:
    """Bounded by the bytes of the encoded placeholders."""

    def __init__(
        self,
        limit_bytes: int,
        render: Callable[[PlaceholderKey], Coroutine[Any, Any, Rendered]],
    ) -> None:
        self._limit_bytes = limit_bytes
        self._render = render
        self._ready: OrderedDict[PlaceholderKey, Rendered] = OrderedDict()
        self._size_bytes = 0
        self._pending: dict[PlaceholderKey, asyncio.Task[Rendered]] = {}

    async def get(self, key: PlaceholderKey) -> Rendered:
        """Give the placeholder, rendering it unless it is ready or under way."""
        if key in self._ready:
            self._ready.move_to_end(key)
            return self._ready[key]
        if key not in self._pending:
            task = asyncio.create_task(self._render(key))
            self._pending[key] = task
            task.add_done_callback(lambda done: self._finish(key, done))
        # Shielded: one caller's cancellation must not take it from the others.
        return await asyncio.shield(self._pending[key])

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._pending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finish(self, key: PlaceholderKey, task: asyncio.Task[Rendered]) -> None:
        del self._pending[key]
        if task.cancelled() or task.exception() is not None:
            return
        rendered = task.result()
        if len(rendered.data) > self._limit_bytes:
            return
        self._ready[key] = rendered
        self._size_bytes += len(rendered.data)
        while self._size_bytes > self._limit_bytes:
            _, oldest = self._ready.popitem(last=False)
            self._size_bytes -= len(oldest.data)

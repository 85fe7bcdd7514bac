"""The cache of placeholders: its bound, its order, and renderings shared."""

from __future__ import annotations

import asyncio

import pytest

from imgserve.errors import PixelsFailed
from imgserve.request import ImageKind
from imgserve.worker.pixels import Rendered, Text
from imgserve.worker.pixels.cache import PlaceholderCache, PlaceholderKey


def key(width_px: int) -> PlaceholderKey:
    """Make a key."""
    return PlaceholderKey(ImageKind.PNG, width_px, 1, Text.FAILED)


class Renderer:
    """Renders as many bytes as the placeholder is wide, once it is let go; counts."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.calls: list[int] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        if open_gate:
            self.gate.set()

    async def __call__(self, asked: PlaceholderKey) -> Rendered:
        """Render."""
        self.calls.append(asked.width_px)
        await self.gate.wait()
        if self.error:
            raise self.error
        return Rendered(bytes(asked.width_px), asked.width_px, 1, "image/png")


def test_least_recently_used_goes_first():
    """When the bytes are over the limit, what was not asked for longest is dropped."""

    async def scenario() -> None:
        renderer = Renderer()
        cache = PlaceholderCache(100, renderer)
        for width in (40, 50, 40, 20):  # 50 is the oldest when 20 does not fit beside
            await cache.get(key(width))
        await cache.get(key(40))
        await cache.get(key(20))
        assert renderer.calls == [40, 50, 20]
        await cache.get(key(50))
        assert renderer.calls == [40, 50, 20, 50]

    asyncio.run(scenario())


@pytest.mark.parametrize(("size", "calls"), [(99, 1), (100, 1), (101, 2)])
def test_larger_than_the_cache_is_not_kept(size, calls):
    """A placeholder over the whole limit is given out and not kept."""

    async def scenario() -> None:
        renderer = Renderer()
        cache = PlaceholderCache(100, renderer)
        await cache.get(key(size))
        assert len((await cache.get(key(size))).data) == size
        assert len(renderer.calls) == calls

    asyncio.run(scenario())


def test_cancelled_caller_leaves_the_rendering_to_others():
    """One caller's cancellation does not take the shared rendering from another."""

    async def scenario() -> None:
        renderer = Renderer(open_gate=False)
        cache = PlaceholderCache(100, renderer)
        first, second = (asyncio.create_task(cache.get(key(5))) for _ in range(2))
        await asyncio.sleep(0)  # one turn for the callers, one for the rendering
        await asyncio.sleep(0)
        assert renderer.calls == [5]
        first.cancel()
        renderer.gate.set()
        assert len((await second).data) == 5
        assert renderer.calls == [5]
        assert first.cancelled()

    asyncio.run(scenario())


def test_failure_is_not_kept():
    """A rendering that failed fails its callers, and the next one tries again."""

    async def scenario() -> None:
        renderer = Renderer()
        renderer.error = PixelsFailed()
        cache = PlaceholderCache(100, renderer)
        with pytest.raises(PixelsFailed):
            await cache.get(key(5))
        renderer.error = None
        assert len((await cache.get(key(5))).data) == 5

    asyncio.run(scenario())


def test_closing_cancels_what_is_under_way():
    """Closing leaves no task behind."""

    async def scenario() -> None:
        cache = PlaceholderCache(100, Renderer(open_gate=False))
        caller = asyncio.create_task(cache.get(key(5)))
        await asyncio.sleep(0)
        await cache.close()
        await asyncio.wait([caller])
        assert caller.cancelled()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())

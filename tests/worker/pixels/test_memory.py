"""What a job may take: estimates by kind, and that the process is held to them."""

from __future__ import annotations

import asyncio

import pytest

from imgserve.config import Settings
from imgserve.errors import PixelsFailed
from imgserve.request import ImageKind
from imgserve.worker.budget import MemoryBudget
from imgserve.worker.parts import build_pixel_settings
from imgserve.worker.pixels import PixelPool, PixelSettings, memory
from imgserve.worker.pixels.pool import SMALL_JOBS_PART
from tests.support import hostile_images as bad
from tests.support import images

MP = 1_000_000


@pytest.mark.parametrize(
    ("data", "bytes_per_pixel"),
    [
        (images.png(1000, 1000, "RGB"), 4),
        (images.png(1000, 1000, "L"), 4),
        (images.png(1000, 1000, "RGBA"), 8),
        (images.png(1000, 1000, "P"), 8),
        (images.gif(1000, 1000), 8),
        (images.jpeg(1000, 1000), 4 / 64),
        (images.jpeg(1000, 1000, progressive=True), 8 + 4 / 64),
    ],
)
def test_memory_follows_the_format(data: bytes, bytes_per_pixel: float):
    """A JPEG is decoded small, a progressive one keeps its coefficients, alpha is copied."""
    estimate = memory.of_resize(data, 10, 10) - memory.of_resize(b"", 10, 10) - len(data)
    assert estimate == pytest.approx(bytes_per_pixel * MP, rel=0.001)


def test_jpeg_for_a_large_result_is_decoded_large():
    """Shrinking on load leaves at least twice the result's size."""
    data = images.jpeg(1000, 1000)
    spent = [memory.of_resize(data, side, side) - 16 * side**2 for side in (100, 200, 250, 400)]
    base = memory.OVERHEAD_BYTES + len(data)
    assert [round((each - base) / MP, 3) for each in spent] == [0.25, 1, 1, 4]


@pytest.mark.parametrize("color", [0, 2, 3, 4, 6])
def test_estimate_is_enough_and_the_limit_holds(color: int):
    """A large picture is done with its estimate for a budget, and refused with far less."""
    data = bad.full_png(7000, 7000, color=color)

    async def scenario(budget_bytes: int) -> None:
        settings = PixelSettings(processes=1, pixel_memory_bytes=budget_bytes)
        async with PixelPool(settings) as pool:
            await pool.resize(data, kind=ImageKind.PNG, width_px=100, height_px=100)

    asyncio.run(scenario(memory.of_resize(data, 100, 100) * 8 // 7 + 1))
    if color in (3, 6):
        with pytest.raises(PixelsFailed, match="MB of memory allowed"):
            asyncio.run(scenario(40_000_000))


def test_raised_limits_bring_the_memory_that_they_take():
    """The default budget and each process's own limit grow with the largest picture allowed."""
    usual = build_pixel_settings(Settings(), processes=1)
    assert (usual.pixel_memory_bytes, usual.memory_limit_bytes) == (1_000_000_000, 2**31)
    flags = {"result_limit_pixels": 80 * MP, "source_limit_pixels": 110 * MP}
    raised = build_pixel_settings(Settings(**flags), processes=1)
    more_bytes = 30 * MP * memory.RESULT_BYTES_PER_PIXEL + 10 * MP * 12
    assert large_job_bytes(raised) - large_job_bytes(usual) == pytest.approx(more_bytes, abs=2)
    assert raised.memory_limit_bytes - usual.memory_limit_bytes == more_bytes
    lowered = build_pixel_settings(Settings(result_limit_pixels=MP), processes=1)
    assert lowered == usual
    chosen = Settings(pixel_memory_bytes=5 * 10**8, **flags)
    assert build_pixel_settings(chosen, processes=1).pixel_memory_bytes == 5 * 10**8


def large_job_bytes(settings: PixelSettings) -> int:
    """What a pool with one process gives to a job that asks for more than there is."""
    budget = MemoryBudget(settings.pixel_memory_bytes, 1, own_part=SMALL_JOBS_PART)
    return asyncio.run(budget.reserve(10**15))


def test_large_jobs_wait_for_each_other_and_small_ones_do_not():
    """With two processes, two pictures that need nearly all memory are done one after the other."""
    large = bad.full_png(9000, 9000)

    async def scenario() -> None:
        settings = PixelSettings(processes=2, pixel_memory_bytes=1_000_000_000)
        async with PixelPool(settings) as pool:
            jobs = [
                asyncio.create_task(
                    pool.resize(large, kind=ImageKind.PNG, width_px=100, height_px=100)
                )
                for _ in range(2)
            ]
            async with asyncio.timeout(20):
                while pool.busy != 1:  # noqa: ASYNC110 (the pool has no event for it)
                    await asyncio.sleep(0.001)
            small = pool.resize(images.png(), kind=ImageKind.PNG, width_px=8, height_px=8)
            assert (await small).width_px == 8
            assert pool.busy == 1
            assert not any(job.done() for job in jobs)
            for job in jobs:
                assert (await job).width_px == 100

    asyncio.run(scenario())


def test_settings_of_replacement_reach_the_processes():
    """After how many jobs, and how much growth, a process is replaced."""
    asked = Settings(process_jobs=7, process_growth_bytes=8_000_000)
    chosen = build_pixel_settings(asked, processes=1)
    assert (chosen.process_jobs, chosen.process_growth_bytes) == (7, 8_000_000)
    assert PixelSettings.from_json(chosen.to_json()) == chosen

"""Mixed jobs, done in processes that have done many and in fresh ones: the answers are equal.

As a program: `python -m tests.worker.pixels.mixed_jobs 2000` does so many and says what differs.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from imgserve.errors import CodedError, PixelProcessDied
from imgserve.request import ImageKind, Renderer
from imgserve.worker.pixels import PixelPool, PixelSettings
from tests.support import images

MIB = 1024 * 1024
# Enough for all jobs but the one that is to fail.
MEMORY_BYTES = 760 * MIB
# An eighth of it is given to each small job, which with the process's margin of 192 MB is less than
# the 263 MB that the allocator keeps of 300,000 paths.
PICTURES_BYTES = 320 * MIB
PATHS = 300_000


@dataclass(frozen=True)
class MixedJob:
    """One job: what it is called, its bytes, and how to ask for it."""

    name: str
    data: bytes
    kind: ImageKind
    width_px: int
    height_px: int
    renderer: Renderer = Renderer.RESVG

    async def answer(self, pool: PixelPool) -> bytes | str:
        """Have it done: the result's bytes, or the code and the sentence."""
        size = {"width_px": self.width_px, "height_px": self.height_px}
        try:
            if self.kind is ImageKind.SVG:
                drawn = await pool.rasterize(self.data, renderer=self.renderer, **size)
            else:
                drawn = await pool.resize(self.data, kind=self.kind, **size)
        except PixelProcessDied:
            return "died"
        except CodedError as exc:
            return f"{exc.code} {exc.detail}"
        return drawn.data


def large_svg() -> MixedJob:
    """An SVG of very many elements, which leaves the allocator with what is not given back."""
    body = "<path d='M0 0 L1 1'/>" * PATHS
    return MixedJob("300,000 paths", images.svg(body), ImageKind.SVG, 9, 9)


def picture_beyond_memory() -> MixedJob:
    """A picture whose pixels do not fit: 9,000 x 9,000 with alpha, twice."""
    large = images.encode(images.Image.new("RGBA", (9000, 9000)), "PNG", compress_level=1)
    return MixedJob("out of memory", large, ImageKind.PNG, 8, 8)


def mixed_jobs(count: int, seed: int = 1) -> Iterator[MixedJob]:
    """Make so many jobs, the same ones for the same seed; the dearest come once in a thousand."""
    choose = random.Random(seed)  # noqa: S311  # the same each time
    rare = [large_svg(), picture_beyond_memory()]
    rare_at = {
        index + choose.randrange(20, 60) + 20 * number: job
        for index in range(0, count, 1000)
        for number, job in enumerate(rare)
    }
    for index in range(count):
        yield rare_at.get(index) or choose.choice(COMMON)(choose)


def _raster(choose: random.Random) -> MixedJob:
    kind, make = choose.choice(
        [
            (ImageKind.PNG, images.png),
            (ImageKind.JPEG, images.jpeg),
            (ImageKind.GIF, images.gif),
        ]
    )
    width_px, height_px = choose.choice([(64, 48), (333, 211), (1024, 768)])
    data = make(width_px, height_px)
    return MixedJob(kind, data, kind, choose.randint(1, 60), choose.randint(1, 40))


def _broken(choose: random.Random) -> MixedJob:
    job = _raster(choose)
    return MixedJob("broken", job.data[: len(job.data) // 2], job.kind, 8, 8)


def _text(choose: random.Random) -> MixedJob:
    family, size = choose.choice(["serif", "sans-serif", "monospace"]), choose.randint(6, 18)
    body = f"<text y='18' font-family='{family}' font-size='{size}'>Text {size}</text>"
    renderer = choose.choice(list(Renderer))
    return MixedJob(f"text by {renderer}", images.svg(body), ImageKind.SVG, 80, 40, renderer)


def _drawing(choose: random.Random) -> MixedJob:
    shapes = "".join(
        f"<circle cx='{choose.randrange(40)}' cy='{choose.randrange(20)}' r='3' opacity='.5'/>"
        for _ in range(choose.choice([3, 300]))
    )
    blur = "<filter id='f'><feGaussianBlur stdDeviation='2'/></filter>"
    body = f"{blur}<g filter='url(#f)'>{shapes}</g>"
    side = choose.choice([20, 400])
    renderer = choose.choice(list(Renderer))
    return MixedJob("drawing", images.svg(body), ImageKind.SVG, 2 * side, side, renderer)


def _not_svg(choose: random.Random) -> MixedJob:
    return MixedJob("not SVG", choose.choice([b"<svg>", b"", b"<a/>"]), ImageKind.SVG, 9, 9)


COMMON: list[Callable[[random.Random], MixedJob]] = [
    _raster, _raster, _raster, _text, _text, _drawing, _broken, _not_svg,
]  # fmt: skip


async def differences(jobs: Iterator[MixedJob]) -> list[str]:
    """Do each job in a process that has done those before it, and in a fresh one."""
    limits = {"memory_limit_bytes": MEMORY_BYTES, "pixel_memory_bytes": PICTURES_BYTES}
    worn_settings = PixelSettings(processes=1, process_jobs=10**9, **limits)
    fresh_settings = PixelSettings(processes=2, process_jobs=1, **limits)
    found = []
    async with PixelPool(worn_settings) as worn, PixelPool(fresh_settings) as fresh:
        for number, job in enumerate(jobs, 1):
            by_worn, by_fresh = await asyncio.gather(job.answer(worn), job.answer(fresh))
            if by_worn != by_fresh:
                found.append(f"job {number}, {job.name}: {_short(by_worn)}, {_short(by_fresh)}")
    return found


def _short(answer: bytes | str) -> str:
    return answer if isinstance(answer, str) else f"{len(answer)} bytes"


def main(count: int) -> int:
    """Compare so many; return the exit code."""
    found = asyncio.run(differences(mixed_jobs(count)))
    print(f"{count} jobs, {len(found)} differences", *found[:20], sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

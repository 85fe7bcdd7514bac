"""The pictures of a run, and what each must become: every version a destination may hold."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from PIL import Image

from imgserve.config import load_settings
from imgserve.request import ImageKind
from imgserve.worker.parts import build_pixel_settings
from imgserve.worker.pixels import PixelPool, Text

SIZES: Final = ((120, 80), (64, 64), (200, 150))
SOURCE_SIZE: Final = (420, 300)
SVG: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 42 30"><rect width="42" height="30" rx="4"
fill="#2b6cb0"/><circle cx="{x}" cy="12" r="8" fill="#f6ad55"/><path d="M0 30 L12 14 L22 24 L30 16
L42 30 Z" fill="#22543d" fill-opacity="0.8"/></svg>
"""


@dataclass(frozen=True, slots=True)
class Versions:
    """Digests of what may stand at one destination."""

    final: str
    processing: str
    failed: str

    def name_of(self, digest: str | None) -> str:
        """Return which version it is: final, processing, failed, absent or other."""
        names = {self.final: "final", self.processing: "processing", self.failed: "failed"}
        return "absent" if digest is None else names.get(digest, "other")


def digest_of(body: bytes) -> str:
    """Return what tells pictures apart in traces."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def pictures() -> dict[str, bytes]:
    """Return file name -> bytes; the same ones at every call."""
    chance = random.Random(7)  # noqa: S311 (pictures)
    files: dict[str, bytes] = {}
    for name in ("meadow.png", "street.png", "harbour.jpg", "face.jpeg"):
        files[name] = _photo(chance, "PNG" if name.endswith("png") else "JPEG")
    for name, x in (("sun.svg", 12), ("moon.svg", 30)):
        files[name] = SVG.format(x=x).encode()
    return files


def broken(picture: bytes) -> bytes:
    """Return a picture whose head is good and whose rest is not."""
    return picture[: len(picture) // 3] + b"\0" * 64


def _photo(chance: random.Random, kind: str) -> bytes:
    small = Image.frombytes("RGB", (14, 10), chance.randbytes(14 * 10 * 3))
    file = io.BytesIO()
    small.resize(SOURCE_SIZE, Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


async def versions() -> Mapping[tuple[str, int, int], Versions]:
    """Render every picture in every size once, with the worker's own pixel processes."""
    found: dict[tuple[str, int, int], Versions] = {}
    async with PixelPool(build_pixel_settings(load_settings({}), 1)) as pool:
        for name, body in pictures().items():
            kind = ImageKind(name.rpartition(".")[2].replace("jpg", "jpeg"))
            for width_px, height_px in SIZES:
                found[name, width_px, height_px] = await _versions(
                    pool, kind, body, width_px, height_px
                )
    return found


async def _versions(
    pool: PixelPool, kind: ImageKind, body: bytes, width_px: int, height_px: int
) -> Versions:
    if kind is ImageKind.SVG:
        result = await pool.rasterize(body, width_px=width_px, height_px=height_px)
        kind = ImageKind.PNG
    else:
        result = await pool.resize(body, kind=kind, width_px=width_px, height_px=height_px)
    placeholders = [
        await pool.placeholder(kind=kind, width_px=width_px, height_px=height_px, text=text)
        for text in (Text.PROCESSING, Text.FAILED)
    ]
    return Versions(*(digest_of(each.data) for each in (result, *placeholders)))

"""Damaged data that decoders survive: warned of, or refused, and never told of good pictures."""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from imgserve.errors import PixelsFailed
from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind
from imgserve.worker.pixels.damage import DamageReport, load
from imgserve.worker.pixels.decode import open_source
from imgserve.worker.pixels.frames import PixelOperation
from imgserve.worker.pixels.resize import resize
from imgserve.worker.pixels.settings import Damaged
from tests.support import images
from tests.worker.pixels.asking import SETTINGS, request

STRICT = replace(SETTINGS, damaged=Damaged.FAIL)


def photo(side_px: int = 400, **options: object) -> bytes:
    """A JPEG of a grainy picture, which has many coefficients."""
    grain = np.random.default_rng(1).normal(0, 12, (side_px, side_px, 3))
    pixels = (images.scene(side_px, side_px) + grain).clip(0, 255).astype(np.uint8)
    return images.encode(Image.fromarray(pixels), "JPEG", **{"quality": 85} | options)


def warned(data: bytes, kind: ImageKind, width_px: int = 40, height_px: int = 30) -> list[str]:
    """Make a thumbnail; return the names of the warnings."""
    found = WarningCollector()
    asked = request(PixelOperation.RESIZE, kind, width_px, height_px)
    images.decoded(resize(data, asked, SETTINGS, found))
    return [warning.name for warning in found]


def zeroed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(200) + data[middle + 200 :]


def shortened(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + data[middle + 400 :]


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff\xd9"


def rows_of(height_px: int, mode: str = "RGB", *, interlaced: bool = False) -> bytes:
    """A PNG of 300x300 that has so many rows of pixels and a clean end."""
    depth, color, row_bytes = {
        "1": (1, 0, 38), "L": (8, 0, 300), "P": (8, 3, 300), "RGB": (8, 2, 900),
        "RGBA": (8, 6, 1200), "I;16": (16, 0, 600), "LA": (8, 4, 600),
    }[mode]  # fmt: skip
    rows = b"".join(b"\0" + os.urandom(row_bytes) for _ in range(height_px))
    header = struct.pack("!IIBBBBB", 300, 300, depth, color, 0, 0, int(interlaced))
    palette = images.chunk(b"PLTE", bytes(range(256)) * 3) if mode == "P" else b""
    return (
        b"\x89PNG\r\n\x1a\n" + images.chunk(b"IHDR", header) + palette
        + images.chunk(b"IDAT", zlib.compress(rows)) + images.chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize("damage", [zeroed, shortened, halved])
@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_jpeg_is_told(damage, progressive: bool):
    """Its pixels are shown, as browsers show them."""
    if damage is zeroed and progressive:
        pytest.skip("zeros are what later scans may hold")
    assert warned(damage(photo(progressive=progressive)), ImageKind.JPEG) == ["source_damaged"]


@pytest.mark.parametrize("offset", range(-2000, 2001, 500))
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"restart_marker_blocks": 50}])
def test_zeroed_part_is_told_wherever_it_is(offset: int, options: dict[str, object]):
    """Libjpeg falls into step again after half of them."""
    data = photo(**options)
    middle = len(data) // 2 + offset
    data = data[:middle] + bytes(200) + data[middle + 200 :]
    assert warned(data, ImageKind.JPEG) == ["source_damaged"]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_damaged_jpeg_of_any_colours_is_told(mode: str):
    """Pillow decodes some of them, and libjpeg is asked all the same."""
    data = images.encode(Image.open(io.BytesIO(photo())).convert(mode), "JPEG", quality=85)
    assert warned(data, ImageKind.JPEG) == []
    assert warned(halved(data), ImageKind.JPEG) == ["source_damaged"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "LA"])
def test_missing_rows_of_a_png_are_told(mode: str):
    """A third of them, and a clean end."""
    assert warned(rows_of(300, mode), ImageKind.PNG) == []
    assert warned(rows_of(100, mode), ImageKind.PNG) == ["source_damaged"]
    assert warned(rows_of(299, mode), ImageKind.PNG) == ["source_damaged"]


def test_missing_rows_of_an_interlaced_png_fail():
    """Pillow sees them itself."""
    whole = images.interlaced_png(64, 48)
    assert warned(whole, ImageKind.PNG) == []
    header, idat = whole.index(b"IHDR"), whole.index(b"IDAT")
    size = struct.unpack_from("!I", whole, idat - 4)[0]
    rows = zlib.decompress(whole[idat + 4 : idat + 4 + size])
    cut = images.chunk(b"IDAT", zlib.compress(rows[: len(rows) * 4 // 5]))
    damaged = whole[: header + 21] + cut + images.chunk(b"IEND", b"")
    with pytest.raises(OSError, match="truncated"):
        warned(damaged, ImageKind.PNG)


def test_missing_rows_of_a_gif_fail():
    """An end code before the last row; Pillow sees it itself."""
    small = images.gif(64, 48)
    assert warned(small, ImageKind.GIF) == []
    image = Image.open(io.BytesIO(small))
    short = images.encode(image.crop((0, 0, 64, 20)), "GIF", interlace=0)
    # The frame and the screen claim 48 rows; the data hold 20.
    short = short.replace(struct.pack("<HH", 64, 20), struct.pack("<HH", 64, 48))
    with pytest.raises(OSError, match="truncated"):
        warned(short, ImageKind.GIF)


@pytest.mark.parametrize("damage", [zeroed, shortened, halved])
def test_damaged_pictures_fail_where_they_are_to(damage):
    """By a setting; good ones do not."""
    asked = request(PixelOperation.RESIZE, ImageKind.JPEG, 40, 30)
    with pytest.raises(PixelsFailed, match="the source's data are damaged"):
        resize(damage(photo()), asked, STRICT, WarningCollector())
    assert resize(photo(), asked, STRICT, WarningCollector())
    assert resize(photo()[:-2], asked, STRICT, WarningCollector())  # only its end marker is missing


@pytest.mark.parametrize(
    "options",
    [
        {}, {"progressive": True}, {"optimize": True}, {"subsampling": 0}, {"subsampling": 2},
        {"restart_marker_blocks": 7}, {"quality": 5}, {"quality": 100},
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [images.jpeg, photo])
def test_good_jpegs_are_not_told(make, options: dict[str, object]):
    """Whatever they are made with; flat ones hold long runs of zeros."""
    data = make(**options)
    assert warned(data, ImageKind.JPEG, 20, 20) == []
    assert warned(data[:-2], ImageKind.JPEG, 20, 20) == []
    assert warned(data + b"trailing" * 99, ImageKind.JPEG, 20, 20) == []


@pytest.mark.parametrize("color", [0, 255, 128])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("optimize", [False, True])
def test_flat_jpegs_are_not_told(color: int, mode: str, optimize: bool):
    """All blocks are equal, which makes runs of equal bytes."""
    image = Image.new("L", (1000, 1000), color).convert(mode)
    data = images.encode(image, "JPEG", optimize=optimize)
    assert warned(data, ImageKind.JPEG) == []


@pytest.mark.parametrize("size", [(64, 48), (1, 1), (1, 200), (200, 1), (7, 3)])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "LA"])
def test_good_pngs_are_not_told(size: tuple[int, int], mode: str):
    """Down to one pixel."""
    assert warned(images.png(*size, mode), ImageKind.PNG, 1, 1) == []


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(400, 300), (401, 299), (1001, 1001)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_are_those_that_pillow_decodes(factor: int, size: tuple[int, int], mode: str):
    """The same library: not a bit differs, whole or at a fraction of the size."""
    data = images.jpeg(*size, mode)
    ours = open_source(data, ImageKind.JPEG, SETTINGS)
    theirs = Image.open(io.BytesIO(data))
    for source in (ours, theirs):
        source.draft(source.mode, (size[0] // factor, size[1] // factor))
    loaded = load(ours, data, DamageReport(Damaged.WARN, WarningCollector()))
    assert loaded is not ours
    assert loaded.size == theirs.size
    assert loaded.tobytes() == theirs.tobytes()

"""PNGs that describe their colours without a profile: the right values are Chromium's pixels."""

from __future__ import annotations

import struct
import zlib

import pytest

from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind
from imgserve.worker.pixels.frames import PixelOperation
from imgserve.worker.pixels.resize import resize
from tests.support import images
from tests.worker.pixels.asking import SETTINGS, request

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
PIXEL = (64, 128, 200)
Chunk = tuple[bytes, bytes]


def gamma(value: int) -> Chunk:
    return b"gAMA", struct.pack("!I", value)


def primaries(*values: float) -> Chunk:
    return b"cHRM", struct.pack("!8I", *(round(value * 100_000) for value in values))


def cicp(*values: int) -> Chunk:
    return b"cICP", bytes(values)


P3 = primaries(0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
SRGB = primaries(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE = primaries(0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
WARM = primaries(0.3457, 0.3585, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
SRGB_CHUNK = (b"sRGB", b"\0")


def png(*chunks: Chunk, color: int = RGB) -> bytes:
    """A PNG of 4x4 equal pixels with chunks before them."""
    palette = images.chunk(b"PLTE", bytes(PIXEL)) if color == PALETTE else b""
    pixel = {
        GREY: bytes(PIXEL[1:2]), RGB: bytes(PIXEL), PALETTE: b"\0",
        GREY_ALPHA: bytes((PIXEL[1], 254)), RGBA: bytes((*PIXEL, 254)),
    }[color]  # fmt: skip
    return (
        b"\x89PNG\r\n\x1a\n"
        + images.chunk(b"IHDR", struct.pack("!IIBBBBB", 4, 4, 8, color, 0, 0, 0))
        + b"".join(images.chunk(*each) for each in chunks)
        + palette
        + images.chunk(b"IDAT", zlib.compress((b"\0" + pixel * 4) * 4))
        + images.chunk(b"IEND", b"")
    )


def shown(data: bytes) -> tuple[object, list[str]]:
    """Make it smaller; return a pixel as it is without any description, and the warnings."""
    warnings = WarningCollector()
    asked = request(PixelOperation.RESIZE, ImageKind.PNG, 2, 2)
    result = resize(data, asked, SETTINGS, warnings)
    assert not any(name in result for name in (b"gAMA", b"cHRM", b"cICP", b"iCCP"))
    return images.decoded(result).getpixel((0, 0)), [warning.name for warning in warnings]


@pytest.mark.parametrize(
    ("chunks", "right"),
    [
        ((), PIXEL),
        ((gamma(100_000),), (137, 188, 229)),
        ((gamma(55_556),), (81, 146, 210)),
        ((gamma(30_000),), (25, 89, 178)),
        ((gamma(45_455),), PIXEL),
        ((gamma(0),), PIXEL),
        ((SRGB_CHUNK, gamma(100_000)), PIXEL),
        ((P3,), PIXEL),
        ((P3, gamma(45_455)), (24, 131, 207)),
        ((SRGB, gamma(45_455)), (62, 129, 201)),
        ((ADOBE, gamma(45_470)), (0, 129, 204)),
        ((WARM, gamma(45_455)), (44, 128, 199)),
        ((cicp(12, 13, 0, 1),), (32, 130, 206)),
        ((cicp(1, 1, 0, 1),), (54, 121, 197)),
        ((cicp(1, 4, 0, 1),), (62, 129, 201)),
        ((cicp(1, 8, 0, 1),), (137, 188, 229)),
        ((cicp(1, 13, 0, 1), gamma(100_000)), PIXEL),
    ],
)
def test_colours_look_as_in_a_browser(chunks: tuple[Chunk, ...], right: tuple[int, int, int]):
    """Alone, together, and in their order of precedence; with a palette and alpha, too."""
    for color in (RGB, PALETTE, RGBA):
        pixel, warnings = shown(png(*chunks, color=color))
        near = all(abs(a - b) <= 1 for a, b in zip(pixel, right, strict=False))
        assert near, (pixel, right)
        assert color != RGBA or pixel[3] == 254
        assert warnings == []


@pytest.mark.parametrize(
    ("chunks", "right"),
    [((gamma(100_000),), 188), ((P3, gamma(45_455)), 129), ((cicp(12, 13, 0, 1),), 128)],
)
def test_grey_follows_the_curve_alone(chunks: tuple[Chunk, ...], right: int):
    """With and without alpha."""
    assert shown(png(*chunks, color=GREY)) == (right, [])
    (grey, alpha), warnings = shown(png(*chunks, color=GREY_ALPHA))
    assert abs(grey - right) <= 1  # Pillow's own, where it multiplies by alpha and back
    assert (alpha, warnings) == (254, [])


@pytest.mark.parametrize("chunk", [cicp(9, 16, 0, 1), cicp(9, 18, 0, 1), cicp(22, 13, 0, 1)])
def test_colours_that_cannot_be_converted_are_told(chunk: Chunk):
    """PQ and HLG need a display's brightness; the samples stay as they are."""
    assert shown(png(chunk)) == (PIXEL, ["color_not_converted"])


def test_broken_descriptions_are_no_descriptions():
    """A wrong checksum, a wrong size, primaries of no colour."""
    good = images.chunk(*gamma(100_000))
    data = png(gamma(100_000)).replace(good, good[:-1] + bytes([good[-1] ^ 1]))
    for broken in (
        data, png((b"gAMA", b"\0")), png((b"cICP", b"\1")), png(cicp(12, 13, 1, 1)),
        png(primaries(*[0.0] * 8), gamma(45_455)), png(primaries(*[0.3] * 8), gamma(45_455)),
    ):  # fmt: skip
        assert shown(broken) == (PIXEL, [])

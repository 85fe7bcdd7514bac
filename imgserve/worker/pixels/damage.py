"""Notice damaged data that decoders survive: libjpeg's warnings, and rows that never came.

A JPEG has no checksum: what its decoder takes for a warning is all that tells. Browsers show such
pictures, so what becomes of one is a setting.
"""

from __future__ import annotations

import os
import re
from typing import Final

import simplejpeg
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from imgserve.errors import PixelsFailed
from imgserve.picture_warnings import WarningCollector, WarningName
from imgserve.worker.pixels.jpeg import has_implausible_zeros
from imgserve.worker.pixels.settings import Damaged

# jerror.h of libjpeg-turbo: the warnings that mean lost or wrong pixels.
_DAMAGE: Final = re.compile(
    r"Corrupt JPEG data|Premature end of JPEG file|Inconsistent progression sequence"
)
# Some cameras leave a few bytes between the pixels and the end; nothing is lost by them.
_HARMLESS: Final = re.compile(r"Corrupt JPEG data: [1-8] extraneous bytes before marker")
_COLOR_SPACES: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
# Adam7 (PNG, third edition, 8.1) and GIF's interlacing (GIF89a, appendix E) end with odd rows.
_INTERLACED: Final = ("interlace", "interlaced")
# Rows are told from a random pattern; so many bits of it are no chance.
_PATTERN_BITS: Final = 64
_BITS: Final = {"1": 1, "I;16": 16, "LA": 16, "PA": 16, "RGB": 24, "RGBA": 32, "I": 32}


class DamageReport:
    """Takes what was found in one picture, and ends its job or warns."""

    def __init__(self, damaged: Damaged, warnings: WarningCollector) -> None:
        self._damaged = damaged
        self._warnings = warnings

    def add(self, words: str) -> None:
        """Report damage.

        Raises:
            PixelsFailed: where damaged pictures are to fail.
        """
        if self._damaged is Damaged.FAIL:
            raise PixelsFailed(f"the source's data are damaged: {words}")
        self._warnings.add(WarningName.SOURCE_DAMAGED, words)


def load(source: ImageFile, data: bytes, report: DamageReport) -> Image.Image:
    """Load a picture's pixels, and report what of them is lost.

    Args:
        source: opened; a JPEG may be drafted to a smaller size.
        data: its file.
        report: takes the damage.

    Returns:
        The source itself, or its pixels alone.

    Raises:
        PixelsFailed: it is damaged, and such pictures are to fail.
        OSError and others of `decode.UNREADABLE`: it cannot be decoded.
    """
    if isinstance(source, JpegImageFile):
        return _load_jpeg(source, data, report)
    _load_rows(source, report)
    return source


def _load_jpeg(source: JpegImageFile, data: bytes, report: DamageReport) -> Image.Image:
    """Decode by libjpeg-turbo with its complaints heard; where it has any, as Pillow does."""
    words = "a part of the JPEG's data is zero" if has_implausible_zeros(data) else ""
    pixels = None
    try:
        pixels = _decode_strictly(source, data)
    except ValueError as exc:
        if _DAMAGE.match(str(exc)) and not _HARMLESS.match(str(exc)):
            words = words or str(exc)
    if words:
        report.add(words)
    if pixels is None:
        source.load()
        return source
    return pixels


def _decode_strictly(source: JpegImageFile, data: bytes) -> Image.Image | None:
    """Decode to the source's present size; None: only Pillow knows how.

    Raises:
        ValueError: with libjpeg's first warning or error.
    """
    (width_px, height_px), color_space = source.size, _COLOR_SPACES.get(source.mode)
    if color_space == "CMYK":
        # Pillow knows which files are inverted. An eighth of the size still reads all the data.
        simplejpeg.decode_jpeg(data, color_space, min_factor=8)
        return None
    if color_space is None:
        return None
    pixels = simplejpeg.decode_jpeg(data, color_space, min_width=width_px, min_height=height_px)
    if pixels.shape[:2] != (height_px, width_px):
        return None
    return Image.frombuffer(source.mode, source.size, pixels, "raw", source.mode, 0, 1)


def _load_rows(source: ImageFile, report: DamageReport) -> None:
    """Load a PNG or a GIF; a pattern that stays in the last row was never written over."""
    if source.tell():  # a later frame may leave rows as they were
        source.load()
        return
    prepare = source.load_prepare
    height_px = source.height
    last = height_px - 1
    if any(source.info.get(name) for name in _INTERLACED) and last > 0:
        last -= 1 - last % 2
    pattern: list[tuple[str, bytes, tuple[int, int, int, int]]] = []

    def prepare_with_pattern() -> None:
        prepare()
        image = source.im
        rows = _rows_for_pattern(image.mode, source.width)
        if rows > last + 1:
            return  # of so few pixels a pattern could be a picture
        box = (0, last + 1 - rows, source.width, last + 1)
        drawn = _noise(image.mode, source.width, rows)
        image.paste(drawn.im, box)
        pattern.append((image.mode, drawn.tobytes(), box))

    source.load_prepare = prepare_with_pattern  # type: ignore[method-assign]
    try:
        source.load()
    finally:
        del source.load_prepare
    for mode, written, box in pattern:
        if source.mode == mode and source.crop(box).tobytes() == written:
            report.add("the last rows of pixels are missing")


def _rows_for_pattern(mode: str, width_px: int) -> int:
    return -(-_PATTERN_BITS // (width_px * _BITS.get(mode, 8)))


def _noise(mode: str, width_px: int, height_px: int) -> Image.Image:
    row_bytes = (width_px * _BITS.get(mode, 8) + 7) // 8
    return Image.frombytes(mode, (width_px, height_px), os.urandom(row_bytes * height_px))

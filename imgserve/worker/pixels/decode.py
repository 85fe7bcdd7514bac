"""Open a picture of one known kind, within the limits, decoding nothing yet."""

from __future__ import annotations

import io
import struct
import warnings

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from imgserve.errors import PixelsFailed, SourceTooManyPixels
from imgserve.request import ImageKind
from imgserve.worker.pixels.exif import orientation_in
from imgserve.worker.pixels.jpeg import count_scans
from imgserve.worker.pixels.repair import PROFILE_LIMIT_BYTES, png_without_faults
from imgserve.worker.pixels.settings import PixelSettings

GREY, RGB = 0, 2  # PNG, third edition, 11.2.1: colour types
PngImagePlugin.MAX_TEXT_CHUNK = PROFILE_LIMIT_BYTES  # of iCCP too; text is left out

FORMATS = {ImageKind.PNG: "PNG", ImageKind.GIF: "GIF", ImageKind.JPEG: "JPEG"}

# What Pillow's readers raise on broken input; MemoryError on a size that RLIMIT_AS stops.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    MemoryError,
)


def open_source(data: bytes, kind: ImageKind, settings: PixelSettings) -> ImageFile:
    """Open the picture and hold it against the limits.

    Raises:
        PixelsFailed: when it is not a readable picture of that kind.
        SourceTooManyPixels: when it is over a limit.
    """
    if kind is ImageKind.JPEG:
        require_few_scans(data, settings.jpeg_scan_limit)
    elif kind is ImageKind.PNG:
        data = png_without_faults(data)
    with warnings.catch_warnings():
        # Pillow only warns between its limit and twice that.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = settings.source_limit_pixels
        try:
            source = Image.open(io.BytesIO(data), formats=(FORMATS[kind],))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as exc:
            raise too_many_pixels(settings) from exc
        except UnidentifiedImageError as exc:
            raise PixelsFailed(f"the source is not a readable {FORMATS[kind]}") from exc
    if source.width * source.height > settings.source_limit_pixels:
        raise too_many_pixels(settings)
    if isinstance(source, JpegImageFile):
        # By default 64 KiB at a time: libjpeg cannot suspend in arithmetic-coded data.
        source.decodermaxblock = max(len(data), source.decodermaxblock)
    elif isinstance(source, PngImageFile):
        scale_transparent_grey(source, data)
    return source


def scale_transparent_grey(source: PngImageFile, data: bytes) -> None:
    """Bring tRNS to the scale of the samples: Pillow spreads 1, 2 and 4 bits over 8, but not it."""
    depth, color_type = data[24], data[25]
    value = source.info.get("transparency")
    if color_type == GREY and depth < 8 and isinstance(value, int):
        source.info["transparency"] = (value & (2**depth - 1)) * 255 // (2**depth - 1)
    elif color_type == RGB and depth == 16 and isinstance(value, tuple):
        # Pillow keeps the upper 8 bits of the samples.
        source.info["transparency"] = tuple(sample >> 8 for sample in value)


def compares_upper_bits(source: ImageFile, data: bytes) -> bool:
    """Tell whether a transparent colour of 16 bits is told from others by 8 of them alone."""
    if not isinstance(source, PngImageFile) or "transparency" not in source.info:
        return False
    return (data[24], data[25]) == (16, RGB)


def too_many_pixels(settings: PixelSettings) -> SourceTooManyPixels:
    """Make the error for a source over the pixel limit."""
    return SourceTooManyPixels(
        f"the source has more than the {settings.source_limit_pixels} pixels allowed"
    )


def require_few_scans(data: bytes, limit: int) -> None:
    """Refuse a JPEG of very many scans, each of which costs a pass over all its pixels."""
    scans = count_scans(data)
    if scans > limit:
        raise SourceTooManyPixels(f"the JPEG has {scans} scans; {limit} are allowed")


def orientation_of(source: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8.

    Pillow's own getexif would load the whole PNG to look behind the pixels, and would believe an
    XMP block, which browsers do not.
    """
    exif = source.info.get("exif")
    return orientation_in(exif) if isinstance(exif, bytes) else 1

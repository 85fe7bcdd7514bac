"""How much memory a job may take in its pixel process, estimated from what its source says.

The pool admits jobs by these figures, and the process makes them its limit, so that pictures can
be as large as the settings allow without all processes holding such a one at once. The bytes a
pixel were measured with Pillow 13 and are those of its own storage, where RGB takes 4.
"""

from __future__ import annotations

from imgserve.errors import SourceUnreadable
from imgserve.request import ImageKind
from imgserve.worker.pixels.head import ImageHead, read_head

MIB = 1024 * 1024
# Codec buffers, tables, what the interpreter needs for one more job.
OVERHEAD_BYTES = 32 * MIB
# An image with alpha and its premultiplied copy; palettes become such images too.
BYTES_PER_PIXEL = 8
PNG_RGB, PNG_GREY = 2, 0
PNG_COLOR_AT = 25
# libjpeg keeps the coefficients of a progressive file: 2 bytes for each of up to 4 components.
COEFFICIENT_BYTES_PER_PIXEL = 8
LOADED_BYTES_PER_PIXEL = 4
# Scaled, turned, converted and encoded.
RESULT_BYTES_PER_PIXEL = 16

# An element tree, and the text that is written from it, for each byte of the file.
SVG_BYTES_PER_BYTE = 30
# Canvas, filters, masks and groups.
SVG_BYTES_PER_RESULT_PIXEL = 40
# A photo or two, decoded.
SVG_RASTER_BYTES = 256 * MIB


def of_resize(data: bytes, width_px: int, height_px: int) -> int:
    """Estimate the memory in bytes that scaling a picture takes at most."""
    result_bytes = width_px * height_px * RESULT_BYTES_PER_PIXEL
    fixed_bytes = OVERHEAD_BYTES + len(data) + result_bytes
    try:
        head = read_head(data, complete=True)
    except SourceUnreadable:
        return fixed_bytes
    return fixed_bytes + (_loaded(data, head, width_px, height_px) if head else 0)


def of_svg(data: bytes, width_px: int, height_px: int) -> int:
    """Estimate the memory in bytes that an SVG takes; one that is a bomb takes more, and dies."""
    raster_bytes = SVG_RASTER_BYTES if b"base64" in data else 0
    canvas_bytes = width_px * height_px * SVG_BYTES_PER_RESULT_PIXEL
    return OVERHEAD_BYTES + len(data) * SVG_BYTES_PER_BYTE + canvas_bytes + raster_bytes


def _loaded(data: bytes, head: ImageHead, width_px: int, height_px: int) -> int:
    if head.kind is ImageKind.JPEG:
        ratio = min(head.width_px // (2 * width_px), head.height_px // (2 * height_px))
        shrink = max(size for size in (1, 2, 4, 8) if size <= max(1, ratio))
        kept = head.pixels * COEFFICIENT_BYTES_PER_PIXEL if head.progressive else 0
        return kept + head.pixels * LOADED_BYTES_PER_PIXEL // shrink**2
    if head.kind is ImageKind.PNG and data[PNG_COLOR_AT] in (PNG_RGB, PNG_GREY):
        opaque = b"tRNS" not in data[: 64 * 1024]
        return head.pixels * (LOADED_BYTES_PER_PIXEL if opaque else BYTES_PER_PIXEL)
    return head.pixels * BYTES_PER_PIXEL

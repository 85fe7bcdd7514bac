"""Tell an image's kind and size from its first bytes, in the worker's loop, without decoding.

Pure Python over a prefix: it walks markers and chunks, and reads a few integers. It never trusts a
length further than to step over it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from imgserve.errors import SourceUnreadable
from imgserve.request import ImageKind
from imgserve.worker.pixels.exif import FIRST_SWAPPING_ORIENTATION, PREFIX, orientation_in
from imgserve.worker.pixels.jpeg import (
    APP1,
    FRAME_STARTS,
    IMAGE_END,
    PROGRESSIVE_FRAMES,
    SCAN_START,
    STEPS_LIMIT,
    segments,
)
from imgserve.worker.pixels.svg_head import find_root

# Phones put depth maps of several MB into segments before the size; stepping over them is cheap.
HEAD_LIMIT_BYTES = 16_000_000
# Enough for every signature below; with fewer nothing can be said.
SIGNATURE_BYTES = 16

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNK_LIMIT_BYTES = 2**31 - 1  # PNG, third edition, 5.3
# GIF89a, 18 and 20: signature and screen; the marks of an extension and of a frame.
GIF_HEADER_BYTES = 13
GIF_EXTENSION, GIF_FRAME = 0x21, 0x2C
JPEG_SIGNATURE = b"\xff\xd8\xff"

# Known, but served by no operation: the name makes the refusal helpful.
OTHER_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (8, b"WEBP", "WebP"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyp", "HEIF or MP4"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "BigTIFF"),
    (0, b"MM\0+", "BigTIFF"),
    (0, b"BM", "BMP"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript or EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x1f\x8b", "gzip (a compressed SVG must be unpacked first)"),
    (0, b"PK\3\4", "ZIP"),
)


@dataclass(slots=True, kw_only=True)
class ImageHead:
    """What the first bytes say.

    Sizes are as shown, after EXIF orientation. An SVG has no size in pixels: both are 0.
    """

    kind: ImageKind
    width_px: int = 0
    height_px: int = 0
    progressive: bool = False

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width_px * self.height_px

    @property
    def decode_bytes(self) -> int:
        """Estimate the memory that decoding takes at most; a worker budgets with it."""
        if self.kind is ImageKind.GIF:
            return self.pixels
        return self.pixels * (7 if self.progressive else 4)


def read_head(data: bytes, *, complete: bool) -> ImageHead | None:
    """Read kind and size from the start of a source.

    Args:
        data: the first bytes, as many as have arrived.
        complete: whether these are all there will be.

    Returns:
        What they say, or None when more bytes are needed. An answer never changes with more.

    Raises:
        SourceUnreadable: when they cannot become a PNG, GIF, JPEG or SVG.
    """
    head = None
    if complete or len(data) >= SIGNATURE_BYTES:
        head = _reader(data)(data)
    if head is None and (complete or len(data) > HEAD_LIMIT_BYTES):
        raise SourceUnreadable(f"the source's size is not in its first {len(data)} bytes")
    if head is not None and head.kind is not ImageKind.SVG and head.pixels == 0:
        raise SourceUnreadable(f"the source says it is {head.width_px}x{head.height_px} pixels")
    return head


def _reader(data: bytes) -> Callable[[bytes], ImageHead | None]:
    if data.startswith(PNG_SIGNATURE):
        return _read_png
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _read_gif
    if data.startswith(JPEG_SIGNATURE):
        return _read_jpeg
    for offset, signature, name in OTHER_KINDS:
        if data.startswith(signature, offset):
            raise SourceUnreadable(f"the source is {name}; PNG, GIF, JPEG and SVG are supported")
    return _read_svg


def _read_gif(data: bytes) -> ImageHead | None:
    """Read the screen, grown to the first frame: some writers leave it at 0 x 0 or too small."""
    if len(data) < GIF_HEADER_BYTES:
        return None
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    palette_bytes = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    frame = _find_gif_frame(data, GIF_HEADER_BYTES + palette_bytes)
    if frame is None:
        return None
    left, top, across, down = frame
    return ImageHead(
        kind=ImageKind.GIF, width_px=max(width, left + across), height_px=max(height, top + down)
    )


def _find_gif_frame(data: bytes, offset: int) -> tuple[int, int, int, int] | None:
    """Step over the extensions before the first frame; return its left, top, width and height.

    Returns: nothing when more bytes are needed; zeros when there is no frame near the start.
    """
    in_blocks = False
    for _ in range(STEPS_LIMIT):
        if offset + 10 > len(data):
            return None
        first = data[offset]
        if in_blocks:  # a length, then so many bytes; 0 ends the extension
            in_blocks = first != 0
            offset += 1 + first
        elif first == GIF_EXTENSION:
            in_blocks = True
            offset += 2
        elif first == GIF_FRAME:
            return struct.unpack_from("<HHHH", data, offset + 1)
        else:
            break
    return 0, 0, 0, 0


def _read_svg(data: bytes) -> ImageHead | None:
    return ImageHead(kind=ImageKind.SVG) if find_root(data) else None


def _read_png(data: bytes) -> ImageHead | None:
    if len(data) < 26:
        return None
    if data[8:16] != b"\0\0\0\x0dIHDR":
        raise SourceUnreadable("the PNG does not begin with its header")
    width, height = struct.unpack_from("!II", data, 16)
    if max(width, height) > PNG_CHUNK_LIMIT_BYTES:
        raise SourceUnreadable("the PNG's size is out of range")
    offset = 33
    orientation = 1
    for _ in range(STEPS_LIMIT):
        if offset + 8 > len(data):
            return None
        size, name = struct.unpack_from("!I4s", data, offset)
        if size > PNG_CHUNK_LIMIT_BYTES:
            raise SourceUnreadable("a chunk of the PNG is longer than PNG allows")
        if name in (b"IDAT", b"IEND"):  # an eXIf behind the pixels is not looked for
            break
        if name == b"eXIf":
            if offset + 8 + size > len(data):
                return None
            orientation = orientation_in(data[offset + 8 : offset + 8 + size])
        offset += 12 + size
    else:
        raise SourceUnreadable(f"the PNG has more than {STEPS_LIMIT} chunks before its pixels")
    return _shown(ImageKind.PNG, width, height, orientation, progressive=data[28] == 1)


def _read_jpeg(data: bytes) -> ImageHead | None:
    orientation = 0
    for marker, body, size in segments(data):
        if marker in (SCAN_START, IMAGE_END):
            raise SourceUnreadable("the JPEG has no frame before its first scan")
        if marker in FRAME_STARTS:
            return _read_frame(data, body, orientation or 1, marker in PROGRESSIVE_FRAMES)
        if marker == APP1 and not orientation:
            if body + size > len(data):
                return None
            if data.startswith(PREFIX, body):
                orientation = orientation_in(data[body : body + size])
    return None


def _read_frame(data: bytes, body: int, orientation: int, progressive: bool) -> ImageHead | None:
    if body + 6 > len(data):
        return None
    precision, height, width, components = struct.unpack_from("!BHHB", data, body)
    if precision != 8:
        raise SourceUnreadable(f"the JPEG has {precision} bits a sample; 8 are supported")
    if components not in (1, 3, 4):
        raise SourceUnreadable(f"the JPEG has {components} components; 1, 3 and 4 are supported")
    return _shown(ImageKind.JPEG, width, height, orientation, progressive=progressive)


def _shown(
    kind: ImageKind, width: int, height: int, orientation: int, *, progressive: bool
) -> ImageHead:
    if orientation >= FIRST_SWAPPING_ORIENTATION:
        width, height = height, width
    return ImageHead(kind=kind, width_px=width, height_px=height, progressive=progressive)

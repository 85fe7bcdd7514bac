"""Pictures and SVGs made by code: each returns the bytes of a file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms

EXIF_ORIENTATION = 0x0112

# How to store a picture so that the orientation shows it as it was meant.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width_px: int, height_px: int) -> np.ndarray:
    """Paint smooth colours that differ in every direction, so that no turn or shift goes unseen."""
    x = np.linspace(0.0, 1.0, width_px)[None, :]
    y = np.linspace(0.0, 1.0, height_px)[:, None]
    red = 40 + 170 * x + 0 * y
    green = 30 + 190 * y + 0 * x
    blue = 128 + 90 * np.sin(5 * x + 1) * np.cos(4 * y)
    return np.stack([red, green, blue], axis=-1).round().clip(0, 255).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width_px: int, height_px: int, mode: str = "RGB") -> Image.Image:
    """Give the scene in a mode; alpha falls from left to right."""
    image = Image.fromarray(scene(width_px, height_px))
    if mode in ("RGBA", "LA"):
        ramp = np.tile(np.linspace(255, 0, width_px).round().astype(np.uint8), (height_px, 1))
        image = image.convert(mode)
        image.putalpha(Image.fromarray(ramp))
        return image
    if mode == "P":
        return image.quantize(64)
    if mode == "I;16":
        grey = np.asarray(image.convert("L"), dtype=np.uint16) * 257
        return Image.fromarray(grey)
    return image.convert(mode)


def png(width_px: int = 64, height_px: int = 48, mode: str = "RGB", **options: Any) -> bytes:
    """Make a PNG of the scene."""
    return encode(picture(width_px, height_px, mode), "PNG", **options)


def jpeg(width_px: int = 64, height_px: int = 48, mode: str = "RGB", **options: Any) -> bytes:
    """Make a JPEG of the scene, of high quality."""
    options = {"quality": 95, "subsampling": 0} | options
    return encode(picture(width_px, height_px, mode), "JPEG", **options)


def gif(width_px: int = 64, height_px: int = 48, **options: Any) -> bytes:
    """Make a GIF of the scene."""
    return encode(picture(width_px, height_px).quantize(255), "GIF", **options)


def gif_with_hole(width_px: int = 64, height_px: int = 48) -> bytes:
    """Make a GIF whose left half is transparent."""
    image = picture(width_px, height_px).quantize(200)
    image.paste(200, (0, 0, width_px // 2, height_px))
    return encode(image, "GIF", transparency=200)


def animated(kind: str, width_px: int = 64, height_px: int = 48) -> bytes:
    """Make an animated GIF or PNG: the scene first, then black."""
    first = picture(width_px, height_px)
    second = Image.new("RGB", first.size)
    return encode(first, kind, save_all=True, append_images=[second], duration=100)


def exif(orientation: int) -> bytes:
    """Make an EXIF block that holds an orientation."""
    block = Image.Exif()
    block[EXIF_ORIENTATION] = orientation
    return block.tobytes()


def oriented(kind: str, orientation: int, width_px: int = 64, height_px: int = 48) -> bytes:
    """Make a file that shows the scene upright at width x height once turned."""
    image = picture(width_px, height_px)
    turn = STORED[orientation]
    if turn is not None:
        image = image.transpose(turn)
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    return encode(image, kind, exif=exif(orientation), **options)


def srgb_profile() -> bytes:
    """Make an ICC profile for RGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def cmyk_profile() -> bytes:
    """Make an ICC profile for CMYK in which coloured inks darken by half and tint by little.

    Source: ICC.1:2022, 7.2 and 10.11 (lut8Type, a grid of two points for each ink).
    """
    table = b"".join(
        bytes(
            (
                round(255 * (1 - k) * (1 - (c + m + y) / 6)),  # L: 0 to 255 for 0 to 100
                round(128 + (m - c) * 40 * (1 - k)),
                round(128 + (y - (c + m) / 2) * 40 * (1 - k)),
            )
        )
        for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)
    )  # fmt: skip
    straight = bytes(range(256))
    matrix = struct.pack("!9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + straight * 4 + table + straight * 3
    white = b"XYZ \0\0\0\0" + struct.pack("!3i", 63190, 65536, 54061)
    tags, offset = b"", 128 + 4 + 2 * 12
    for name, body in ((b"A2B0", lut), (b"wtpt", white)):
        tags += struct.pack("!4sII", name, offset, len(body))
        offset += len(body)
    header = struct.pack(
        "!I4sI4s4s4s12s4s4sI4sIIII3i44x",
        offset, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"", b"acsp", b"", 0, b"", 0, 0, 0,
        0, 63190, 65536, 54061,
    )  # fmt: skip
    return header[:128].ljust(128, b"\0") + struct.pack("!I", 2) + tags + lut + white


def rgb16_png(width_px: int = 64, height_px: int = 48) -> bytes:
    """Make a PNG of 16 bits a channel, which Pillow cannot write."""
    samples = scene(width_px, height_px).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return raw_png(width_px, height_px, depth=16, color=2, rows=rows)


def interlaced_png(width_px: int = 64, height_px: int = 48) -> bytes:
    """Make an interlaced PNG of 8-bit RGB, which Pillow cannot write."""
    samples = scene(width_px, height_px)
    rows = b""
    # PNG, third edition, 8.1: start and step of the seven passes.
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):  # fmt: skip
        part = samples[top::down, left::across]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    return raw_png(width_px, height_px, depth=8, color=2, rows=rows, interlaced=True)


def raw_png(
    width_px: int, height_px: int, *, depth: int, color: int, rows: bytes, interlaced: bool = False
) -> bytes:
    """Put a PNG together from its filtered rows."""
    header = struct.pack("!IIBBBBB", width_px, height_px, depth, color, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def chunk(name: bytes, body: bytes) -> bytes:
    """Make one chunk of a PNG."""
    return struct.pack("!I", len(body)) + name + body + struct.pack("!I", zlib.crc32(name + body))


def jpeg_of_many_scans(scans: int) -> bytes:
    """Make a progressive JPEG, its last scan repeated until there are that many."""
    data = jpeg(64, 64, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (scans - data.count(b"\xff\xda")) + data[-2:]


def sequential_jpeg_of_many_scans(scans: int, *, partial: bool) -> bytes:
    """Make a sequential JPEG, its one scan repeated until there are that many.

    Args:
        scans: how many.
        partial: the first scan has the first of its three components only, so that a decoder has
            to read the others too.
    """
    data = jpeg(64, 64)
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    if partial:
        scan = b"\xff\xda\0\x08\x01" + scan[5:7] + scan[11:]
    return data[:start] + scan * scans + data[-2:]


def svg(body: str = "", root: str = 'viewBox="0 0 40 20"') -> bytes:
    """Make an SVG; without a body its left half is red and its right half is empty."""
    body = body or '<rect width="20" height="20" fill="#ff0000"/>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f"{root}>{body}</svg>"
    ).encode()


def decoded(data: bytes) -> Image.Image:
    """Open and load a picture."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image

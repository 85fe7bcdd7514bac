"""Find the orientation in an EXIF block; used on the head in the worker and before decoding."""

from __future__ import annotations

import struct

PREFIX = b"Exif\0\0"
ORIENTATION_TAG = 0x0112
SHORT = 3  # EXIF 2.32, 4.6.2: a 16-bit unsigned integer
ENTRY_BYTES = 12
TIFF_HEADER_BYTES = 8
# 4.6.4 A, tag 274: orientations from here on swap width and height.
FIRST_SWAPPING_ORIENTATION = 5


def orientation_in(block: bytes) -> int:
    """Read the orientation from an EXIF block.

    Args:
        block: a TIFF structure, with or without the `Exif` prefix that JPEG puts before it.

    Returns:
        1 to 8; 1 when there is none or the block is broken, as browsers do.

    Source: EXIF 2.32, 4.6.2 and 4.6.4 (tag 274); TIFF 6.0, section 2.
    """
    tiff = block.removeprefix(PREFIX)
    if len(tiff) < TIFF_HEADER_BYTES or tiff[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    order = "<" if tiff[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for index in range(count):
        entry = directory + 2 + index * ENTRY_BYTES
        if entry + ENTRY_BYTES > len(tiff):
            return 1
        tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == ORIENTATION_TAG:
            return value if kind == SHORT and 1 <= value <= 8 else 1
    return 1

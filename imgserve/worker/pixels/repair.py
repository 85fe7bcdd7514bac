"""Mend what is not pixels before decoding, as browsers do; never what is.

Pillow ends on a wrong checksum of a comment, and on a JPEG without its end marker. Browsers show
both, so neither may end a job. Pixels that are missing stay an error.
"""

from __future__ import annotations

import struct
import zlib

PNG_SIGNATURE_BYTES = 8
# What a decoder needs besides the pixels. All other chunks are text, times and sizes in metres.
PNG_KEPT = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT"}
)
# Bit 5 of the first letter: a decoder may leave the chunk out (PNG, third edition, 5.4).
ANCILLARY = 0x20
# libpng's own limit for a chunk that it unpacks (PNG_USER_CHUNK_MALLOC_MAX).
PROFILE_LIMIT_BYTES = 8_000_000
JPEG_END = b"\xff\xd9"
# Entropy-coded data that is no marker. A decoder that still needs data makes other pixels of it
# than of an end marker at the same place.
JPEG_FILLER = bytes(range(1, 255)) * 4


def png_without_faults(data: bytes) -> bytes:
    """Leave out the chunks that are not needed, and needed ones that are broken but optional.

    Args:
        data: a whole PNG; what cannot be walked over is returned as it is.
    """
    view = memoryview(data)
    pieces = [view[:PNG_SIGNATURE_BYTES]]
    offset = PNG_SIGNATURE_BYTES
    while offset + 12 <= len(data):
        size, name = struct.unpack_from("!I4s", data, offset)
        end = offset + 12 + size
        if end > len(data):
            break
        if name in PNG_KEPT and not _is_broken(name, view[offset + 4 : end]):
            pieces.append(view[offset:end])
        elif not name[0] & ANCILLARY:
            pieces.append(view[offset:end])  # critical: the decoder has to judge it
        offset = end
        if name == b"IEND":
            return b"".join(pieces)
    pieces.append(view[offset:])
    return b"".join(pieces)


def _is_broken(name: bytes, chunk: memoryview) -> bool:
    """Tell whether an optional chunk, from its name to its checksum, cannot be used."""
    if not name[0] & ANCILLARY:
        return False
    body, (checksum,) = chunk[:-4], struct.unpack("!I", chunk[-4:])
    if zlib.crc32(body) != checksum:
        return True
    return name == b"iCCP" and not _unpacks(bytes(body[4:]))


def _unpacks(profile: bytes) -> bool:
    # A name, a NUL, the compression method, then zlib data.
    packed = profile.partition(b"\0")[2][1:]
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, PROFILE_LIMIT_BYTES)
    except zlib.error:
        return False
    return unpacker.eof


def jpeg_lacks_its_end(data: bytes) -> bool:
    """Tell whether no end marker follows the last scan."""
    return data.rfind(JPEG_END) < data.rfind(b"\xff\xda")


def jpeg_endings(data: bytes) -> tuple[bytes, bytes]:
    """Give a JPEG without an end two endings, between which whole pixels do not differ.

    Returns: the data with an end marker, and the data with filler before that marker.
    """
    return data + JPEG_END, data + JPEG_FILLER + JPEG_END

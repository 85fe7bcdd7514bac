"""Walk the segments of a JPEG as far as its first scan (ITU T.81, annex B)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from imgserve.errors import SourceUnreadable

# Segments before the first scan; honest files have some hundreds at most. The worker's loop walks
# over them: a million, sent again and again, would hold it longer than its lease.
STEPS_LIMIT = 4096
# Table B.1: start of frame is C0 to CF but for DHT, JPG and DAC.
FRAME_STARTS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE_FRAMES = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
FILL = re.compile(rb"\xff++")
HUFFMAN_SEQUENTIAL_FRAMES = frozenset({0xC0, 0xC1})
HUFFMAN_TABLES, END_OF_BLOCK = 0xC4, 0x00
IMPLAUSIBLE_ZEROS = bytes(48)
APP1, SCAN_START, IMAGE_END = 0xE1, 0xDA, 0xD9
COMPONENTS_AT = 5  # of a frame: after precision, height and width


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, offset of the body and its size in bytes, up to the first scan or the end.

    The body itself may lie beyond the data.

    Raises:
        SourceUnreadable: there are more than STEPS_LIMIT.
    """
    offset = 2
    for _ in range(STEPS_LIMIT):
        # Any number of 0xFF may precede a marker (B.1.1.2).
        start = data.find(b"\xff", offset)
        fill = FILL.match(data, start) if start >= 0 else None
        if fill is None or fill.end() + 3 > len(data):
            return
        offset = fill.end() - 1
        marker = data[offset + 1]
        if marker in WITHOUT_LENGTH:
            offset += 2
            continue
        (size,) = struct.unpack_from("!H", data, offset + 2)
        yield marker, offset + 4, size - 2
        if marker in (SCAN_START, IMAGE_END):
            return
        offset += 2 + size
    raise SourceUnreadable(f"the JPEG has more than {STEPS_LIMIT} segments before its frame")


def count_scans(data: bytes) -> int:
    """Count the scans that a decoder reads: each is a pass over all the pixels.

    Of a sequential JPEG whose first scan has every component that is the only one, whatever
    follows; finding the others in every photo would cost it a twentieth of its decoding. In
    entropy-coded data 0xFF is never followed by 0xDA, so counting the two bytes overstates only by
    what thumbnails in the metadata hold.
    """
    return 1 if _is_one_scan(data) else data.count(b"\xff\xda")


def _is_one_scan(data: bytes) -> bool:
    components = 0
    try:
        for marker, body, _ in segments(data):
            if marker in PROGRESSIVE_FRAMES:
                return False
            if marker in FRAME_STARTS:
                if components:  # of several frames the decoder may take either
                    return False
                components = _byte(data, body + COMPONENTS_AT)
            if marker == SCAN_START:
                return 0 < components <= _byte(data, body)
    except SourceUnreadable:
        pass
    return False


def has_implausible_zeros(data: bytes) -> bool:
    """Tell whether a sequential JPEG's first scan holds zeros that no encoder writes.

    libjpeg itself takes them for coefficients, and often falls into step again without a word.
    Where the shortest code of the first table for AC coefficients does not end a block, so many
    zeros are hundreds of equal coefficients in a row.
    """
    shortest: dict[int, int] = {}
    try:
        for marker, body, size in segments(data):
            if marker in FRAME_STARTS and marker not in HUFFMAN_SEQUENTIAL_FRAMES:
                return False
            if marker == HUFFMAN_TABLES:
                shortest |= _shortest_ac_codes(data[body : body + size])
            if marker == SCAN_START:
                table = _byte(data, body + 2) & 0x0F  # after count and id: of the first component
                if shortest.get(table, END_OF_BLOCK) == END_OF_BLOCK:
                    return False
                start = body + size
                zeros = data.find(IMPLAUSIBLE_ZEROS, start)
                return 0 <= zeros < data.find(b"\xff\xd9", start)
    except SourceUnreadable:
        pass
    return False


def _shortest_ac_codes(tables: bytes) -> dict[int, int]:
    """Give for each table of AC coefficients the symbol of its code of zeros (B.2.4.2, C.2)."""
    found = {}
    offset = 0
    while offset + 17 < len(tables):
        kind, table = tables[offset] >> 4, tables[offset] & 0x0F
        if kind == 1:
            found[table] = tables[offset + 17]
        offset += 17 + sum(tables[offset + 1 : offset + 17])
    return found


def _byte(data: bytes, offset: int) -> int:
    return data[offset] if offset < len(data) else 0

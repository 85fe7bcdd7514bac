"""Reading a head is cheap whatever the source: it happens in the worker's event loop."""

from __future__ import annotations

import time

import pytest

from imgserve.errors import SourceUnreadable
from imgserve.worker.pixels.head import HEAD_LIMIT_BYTES, STEPS_LIMIT, read_head
from tests.support import images
from tests.support.hostile_images import jpeg_of_many_markers, png_of_many_chunks

BEGINNINGS = {
    "JPEG of fill bytes": b"\xff\xd8\xff" + b"\xff" * HEAD_LIMIT_BYTES,
    "JPEG of stuffed bytes": b"\xff\xd8\xff\xe0\x00\x02" + b"\xff\x00" * (HEAD_LIMIT_BYTES // 2),
    "JPEG of no bytes that matter": b"\xff\xd8\xff\xe0\x00\x02" + b"\0" * HEAD_LIMIT_BYTES,
    "JPEG of empty segments": b"\xff\xd8" + b"\xff\xfe\x00\x02" * (HEAD_LIMIT_BYTES // 4),
    "PNG of empty chunks": png_of_many_chunks(1)[:33] + b"\0\0\0\0teXt----" * 1_000_000,
    "XML of comments": b"<!---->" * 2_000_000,
    "XML of white space": b" " * HEAD_LIMIT_BYTES,
    "XML of a doctype": b"<!DOCTYPE a [" + b"<!ENTITY a 'b'>" * 1_000_000,
}


@pytest.mark.parametrize("what", BEGINNINGS)
def test_hostile_head_costs_milliseconds(what: str):
    """A longer and longer beginning, as it arrives, is read in a fraction of a beat in all."""
    data = BEGINNINGS[what]
    began_s = time.process_time()
    size = 4096
    with pytest.raises(SourceUnreadable):
        while True:
            read_head(data[:size], complete=size >= len(data))
            size *= 2
    assert time.process_time() - began_s < 0.5


def test_honest_numbers_of_parts_are_read():
    """A head with as many parts as the limit allows is read; with one more it is not."""
    parts = STEPS_LIMIT - 10
    for data, kind in ((jpeg_of_many_markers(parts), "jpeg"), (png_of_many_chunks(parts), "png")):
        head = read_head(data, complete=True)
        assert head is not None
        assert (head.kind, head.width_px, head.height_px) == (kind, 64, 48)
    for data in (jpeg_of_many_markers(STEPS_LIMIT), png_of_many_chunks(STEPS_LIMIT)):
        with pytest.raises(SourceUnreadable, match="more than 4096"):
            read_head(data, complete=True)


def test_fill_bytes_are_skipped():
    """Any number of them may precede a marker."""
    data = images.jpeg(64, 48)
    filled = data[:2] + b"\xff" * 5000 + data[2:]
    assert read_head(filled, complete=True) == read_head(data, complete=True)

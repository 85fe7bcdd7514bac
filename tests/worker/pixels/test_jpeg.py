"""Counting the scans of a JPEG: all of them where the decoder reads all, else one."""

from __future__ import annotations

import pytest

from imgserve.errors import SourceUnreadable
from imgserve.worker.pixels.jpeg import SCAN_START, STEPS_LIMIT, count_scans, segments
from tests.support import images

COMMENT = b"\xff\xfe\0\x06\xff\xda\xff\xda"  # two scans, if one does not walk


@pytest.mark.parametrize("scans", [20, 4000])
def test_every_scan_of_a_progressive_jpeg_counts(scans):
    """Progressive files hold about ten; more are more passes."""
    data = images.jpeg_of_many_scans(scans)
    assert count_scans(data) == scans


def test_every_scan_counts_where_the_first_lacks_components():
    """A decoder keeps the coefficients of such a sequential file and reads it to its end."""
    assert count_scans(images.sequential_jpeg_of_many_scans(101, partial=True)) == 101


def test_what_follows_the_only_scan_does_not_count():
    """Nothing behind it is decoded."""
    assert count_scans(images.sequential_jpeg_of_many_scans(101, partial=False)) == 1


def test_metadata_that_looks_like_scans_does_not_count():
    """A comment or a thumbnail may hold any bytes."""
    photo = images.jpeg()
    assert count_scans(photo[:2] + 200 * COMMENT + photo[2:]) == 1


def test_a_comment_cannot_pass_for_the_first_scan():
    """Else a comment that looks complete would hide the scans behind it."""
    data = images.sequential_jpeg_of_many_scans(101, partial=True)
    assert count_scans(data[:2] + b"\xff\xfe\0\x07\xff\xda\x08\x03\x01" + data[2:]) == 102


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8" + b"\xff\xda" * 7])
def test_what_cannot_be_walked_is_counted(data):
    """When in doubt, all of them."""
    assert count_scans(data) == data.count(b"\xff\xda")


def test_two_frames_are_doubt():
    """A decoder may take the second, of which the first scan has a part only."""
    data = images.sequential_jpeg_of_many_scans(5, partial=True)
    frame = next(body for marker, body, _ in segments(data) if marker == 0xC0)
    fake = b"\xff\xc0\0\x0b" + data[frame : frame + 5] + b"\x01" + data[frame + 6 : frame + 9]
    assert count_scans(data[:2] + fake + data[2:]) == 5


def test_segments_end_at_the_first_scan():
    """What follows is entropy-coded."""
    markers = [marker for marker, _, _ in segments(images.jpeg())]
    assert markers[-1] == SCAN_START
    assert markers.count(SCAN_START) == 1


def test_endless_segments_are_refused():
    """The loop that walks them serves other jobs, too."""
    data = b"\xff\xd8" + b"\xff\xfe\0\x02" * (STEPS_LIMIT + 1)
    with pytest.raises(SourceUnreadable, match="segments"):
        list(segments(data))
    assert count_scans(data) == 0

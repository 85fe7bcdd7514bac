"""The arithmetic of cropping and turning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgserve.worker.pixels.geometry import Box, Size, cover_box, stored_box, turned
from imgserve.worker.pixels.resize import TRANSPOSE
from tests.support import images

SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("shown", "result", "box"),
    [
        ((300, 300), (200, 100), (0, 50, 300, 200)),  # a third of 150
        ((400, 100), (100, 100), (150, 0, 250, 100)),
        ((100, 100), (100, 100), (0, 0, 100, 100)),
        ((101, 100), (100, 100), (0.5, 0, 100.5, 100)),
    ],
)
def test_cover_box(shown, result, box):
    """The surplus goes equally left and right, and one third of it above."""
    assert cover_box(Size(*shown), Size(*result)) == pytest.approx(box)


@given(SIDES, SIDES, SIDES, SIDES)
def test_box_stays_inside_and_keeps_the_aspect(width, height, result_width, result_height):
    """For all sizes the box is inside the source, touches two sides and has the result's aspect."""
    box = cover_box(Size(width, height), Size(result_width, result_height))
    assert 0 <= box.left < box.right <= width
    assert 0 <= box.top < box.bottom <= height
    assert box.right - box.left == pytest.approx(width) or box.bottom - box.top == pytest.approx(
        height
    )
    aspect = (box.right - box.left) / (box.bottom - box.top)
    assert aspect == pytest.approx(result_width / result_height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_box_is_the_same_part(orientation):
    """Cropping as stored and turning then is the same as turning and cropping then."""
    shown = images.picture(40, 30)
    turn = images.STORED[orientation]
    stored = shown if turn is None else shown.transpose(turn)
    size = Size(40, 30)
    assert turned(size, orientation) == stored.size
    box = Box(3, 5, 20, 28)
    part = stored.crop(tuple(map(int, stored_box(box, size, orientation))))
    if orientation in TRANSPOSE:
        part = part.transpose(TRANSPOSE[orientation])
    assert (np.asarray(part) == np.asarray(shown.crop(tuple(map(int, box))))).all()
    assert isinstance(part, Image.Image)

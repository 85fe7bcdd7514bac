"""Where to crop and how to turn: arithmetic on sizes and boxes, without pixels."""

from __future__ import annotations

from typing import NamedTuple

from imgserve.worker.pixels.exif import FIRST_SWAPPING_ORIENTATION


class Size(NamedTuple):
    """Width and height in pixels."""

    width_px: int
    height_px: int


class Box(NamedTuple):
    """A rectangle in pixels, possibly between them."""

    left: float
    top: float
    right: float
    bottom: float


def turned(size: Size, orientation: int) -> Size:
    """Give the size as shown of an image stored with `orientation`, or the reverse."""
    if orientation >= FIRST_SWAPPING_ORIENTATION:
        return Size(size.height_px, size.width_px)
    return size


def cover_box(shown: Size, result: Size) -> Box:
    """Find the largest part of the image that has the result's aspect.

    The surplus is cut equally left and right; of the surplus in height one third is cut at the
    top, because faces are above the middle.
    """
    scale = min(shown.width_px / result.width_px, shown.height_px / result.height_px)
    width, height = result.width_px * scale, result.height_px * scale
    left = max(0.0, (shown.width_px - width) / 2)
    top = max(0.0, (shown.height_px - height) / 3)
    return Box(
        left,
        top,
        min(left + width, float(shown.width_px)),
        min(top + height, float(shown.height_px)),
    )


def stored_box(box: Box, shown: Size, orientation: int) -> Box:
    """Turn a box of the image as shown into one of the image as stored.

    So the small result is turned instead of the whole source.
    """
    left, top, right, bottom = box
    width, height = shown
    return {
        1: Box(left, top, right, bottom),
        2: Box(width - right, top, width - left, bottom),
        3: Box(width - right, height - bottom, width - left, height - top),
        4: Box(left, height - bottom, right, height - top),
        5: Box(top, left, bottom, right),
        6: Box(top, width - right, bottom, width - left),
        7: Box(height - bottom, width - right, height - top, width - left),
        8: Box(height - bottom, left, height - top, right),
    }[orientation]

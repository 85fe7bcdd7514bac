"""Placeholders: size, format, text that fits, and what they cost."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from imgserve.config import Settings
from imgserve.request import ImageKind
from imgserve.worker.pixels import Text
from imgserve.worker.pixels.frames import PixelOperation
from imgserve.worker.pixels.placeholder import LAYOUTS, SMALLEST_FONT_PX, fit, placeholder
from tests.support import images
from tests.worker.pixels.asking import request

LIMIT_PIXELS = Settings.model_fields["result_limit_pixels"].default
LIMIT_SIDE_PX = Settings.model_fields["result_limit_side_px"].default
KINDS = (ImageKind.PNG, ImageKind.GIF, ImageKind.JPEG)


def drawn(kind: ImageKind, width: int, height: int, text: Text = Text.PROCESSING) -> bytes:
    """Draw a placeholder in this process."""
    return placeholder(request(PixelOperation.PLACEHOLDER, kind, width, height, text=text))


def ink(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Give the box of what is not white."""
    return image.convert("L").point([255] * 200 + [0] * 56).getbbox()


@pytest.mark.parametrize("text", Text)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(200, 120), (640, 480), (120, 600), (90, 40), (3000, 20)])
def test_text_is_centred_and_inside(kind, size, text):
    """A white picture of the size and format, its text in the middle and clear of the edges."""
    image = images.decoded(drawn(kind, *size, text))
    assert (image.format, image.size) == (kind.value.upper(), size)
    assert image.convert("L").getpixel((0, 0)) >= 250
    left, top, right, bottom = ink(image)
    assert abs((left + right) - size[0]) <= 6
    assert abs((top + bottom) - size[1]) <= max(6, 0.3 * (bottom - top))
    assert right - left <= size[0] * 0.93
    assert bottom - top <= size[1] * 0.93


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (30, 10), (20_000, 5), (5, 20_000)])
def test_text_is_left_out_where_it_is_not_legible(kind, size):
    """Where the letters would be smaller than 8 px there are none."""
    image = images.decoded(drawn(kind, *size))
    assert image.size == size
    assert ink(image) is None


def test_texts_differ():
    """Work under way and failure do not look the same."""
    both = [np.asarray(images.decoded(drawn(ImageKind.PNG, 200, 120, text))) for text in Text]
    assert (both[0] != both[1]).any()


@pytest.mark.parametrize("text", Text)
def test_every_layout_says_the_whole_text(text):
    """Line breaks are all that layouts differ in."""
    assert {layout.replace("\n", " ") for layout in LAYOUTS[text]} == {text.value}


def test_narrow_results_get_more_lines():
    """The layout with the largest letters is taken."""
    assert fit(Text.PROCESSING, 2000, 30)[0].count("\n") == 0
    assert fit(Text.PROCESSING, 60, 300)[0].count("\n") == 2
    assert fit(Text.PROCESSING, 60, 300)[1] >= SMALLEST_FONT_PX


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(LIMIT_SIDE_PX, LIMIT_PIXELS // LIMIT_SIDE_PX), (7071, 7071)])
def test_largest_results_have_placeholders(kind, size):
    """The largest result that a request may ask for has a placeholder, encoded small."""
    started_s = time.process_time()
    data = drawn(kind, *size)
    assert time.process_time() - started_s < 10
    assert len(data) < 1_500_000
    assert data.startswith((b"\x89PNG", b"GIF8", b"\xff\xd8"))


def test_svg_gets_a_png():
    """The placeholder of a rasterized SVG is a PNG, as its result."""
    assert images.decoded(drawn(ImageKind.SVG, 200, 120)).format == "PNG"

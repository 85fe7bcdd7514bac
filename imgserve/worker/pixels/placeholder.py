"""Placeholder: a white picture of the result's size and format, with a text that fits in it."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from imgserve.worker.pixels.encode import encode
from imgserve.worker.pixels.frames import Request, result_kind
from imgserve.worker.pixels.settings import Text

WHITE = 255
INK = 96
# Below this the letters of the font run together.
SMALLEST_FONT_PX = 8
LARGEST_FONT_PX = 64
# How much of the width and height the text may take.
WIDTH_SHARE = 0.9
HEIGHT_SHARE = 0.8
LINE_SPACING_EM = 0.25
MEASURING_FONT_PX = 64

# Narrow results take the text in more lines.
LAYOUTS: dict[Text, tuple[str, ...]] = {
    Text.PROCESSING: (
        "Image being processed",
        "Image being\nprocessed",
        "Image\nbeing\nprocessed",
    ),
    Text.FAILED: (
        "Image processing failed",
        "Image processing\nfailed",
        "Image\nprocessing\nfailed",
    ),
}


def placeholder(asked: Request) -> bytes:
    """Draw and encode a placeholder; it has one channel, for every format is smallest so.

    Args:
        asked: size in pixels, format and text.

    Returns:
        The encoded picture, with the text centred, or without it when it would not be legible.
    """
    size = (asked.width_px, asked.height_px)
    image = Image.new("L", size, WHITE)
    layout, font_px = fit(asked.text, *size)
    if font_px >= SMALLEST_FONT_PX:
        ImageDraw.Draw(image).multiline_text(
            (size[0] / 2, size[1] / 2),
            layout,
            fill=INK,
            font=font(font_px),
            anchor="mm",
            align="center",
            spacing=font_px * LINE_SPACING_EM,
        )
    return encode(image, result_kind(asked), quality=asked.quality)


def fit(text: Text, width_px: int, height_px: int) -> tuple[str, int]:
    """Choose the layout that allows the largest letters, and their size."""
    choices = []
    for layout in LAYOUTS[text]:
        wide, high = extent_em(layout)
        size = min(width_px * WIDTH_SHARE / wide, height_px * HEIGHT_SHARE / high)
        choices.append((min(int(size), LARGEST_FONT_PX), -layout.count("\n"), layout))
    best = max(choices)
    return best[2], best[0]


@lru_cache
def extent_em(layout: str) -> tuple[float, float]:
    """Measure a text in units of its font size."""
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox(
        (0, 0), layout, font=font(MEASURING_FONT_PX), spacing=MEASURING_FONT_PX * LINE_SPACING_EM
    )
    return (right - left) / MEASURING_FONT_PX, (bottom - top) / MEASURING_FONT_PX


@lru_cache(maxsize=LARGEST_FONT_PX)
def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Load the font that Pillow carries within; no file is read."""
    return ImageFont.load_default(size_px)

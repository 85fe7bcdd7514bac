"""Paint the demo's pictures: a landscape by day and by night, and a logo with text."""

from __future__ import annotations

import io
import math
import random
from typing import Final

from PIL import Image, ImageDraw, ImageFilter

SIZE: Final = (1600, 1067)
Colour = tuple[int, int, int]

LOGO: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 160">
  <defs>
    <linearGradient id="sky" x2="0" y2="1">
      <stop offset="0" stop-color="#2b6cb0"/><stop offset="1" stop-color="#f6ad55"/>
    </linearGradient>
  </defs>
  <rect x="8" y="16" width="170" height="128" rx="20" fill="url(#sky)"/>
  <circle cx="132" cy="58" r="20" fill="#fffbe6"/>
  <path d="M8 124 L64 62 L100 104 L124 80 L178 132 A20 20 0 0 1 158 144 H28 A20 20 0 0 1 8 124"
        fill="#22543d"/>
  <text x="200" y="98" font-family="DejaVu Sans, sans-serif" font-size="52" font-weight="bold"
        fill="#1a202c">imgserve</text>
  <text x="203" y="130" font-family="DejaVu Sans, sans-serif" font-size="19"
        fill="#4a5568">from URL to URL</text>
</svg>
"""

DAY: Final = ((52, 120, 190), (250, 214, 165), (255, 244, 214), (38, 66, 58))
NIGHT: Final = ((8, 12, 36), (54, 52, 96), (232, 236, 255), (10, 16, 26))


def landscape(palette: tuple[Colour, Colour, Colour, Colour], kind: str) -> bytes:
    """Paint sky, sun, five ranges of hills and their reflection in a lake.

    Args:
        palette: top of the sky, horizon, sun, nearest hill.
        kind: JPEG or PNG.

    Returns: the file's bytes; the same ones at every call.
    """
    width, height = SIZE
    top, horizon, sun, near = palette
    shore = height * 7 // 10
    chance = random.Random(8602)  # noqa: S311 (a picture, not a secret)
    picture = Image.composite(
        Image.new("RGB", (width, shore), horizon),
        Image.new("RGB", (width, shore), top),
        Image.linear_gradient("L").resize((width, shore)),
    )
    picture = _with_sun(picture, sun)
    for layer in range(5):
        nearness = (layer + 1) / 5
        colour = _mix(horizon, near, 0.25 + 0.75 * nearness)
        line = _ridge(chance, width, shore, nearness)
        draw = ImageDraw.Draw(picture)
        draw.polygon([(0, shore), *line, (width, shore)], fill=colour)
    whole = Image.new("RGB", SIZE)
    whole.paste(picture, (0, 0))
    water = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).crop((0, 0, width, height - shore))
    water = water.filter(ImageFilter.GaussianBlur(5))
    whole.paste(Image.blend(water, Image.new("RGB", water.size, top), 0.3), (0, shore))
    grain = Image.effect_noise(SIZE, 18).convert("RGB")
    file = io.BytesIO()
    Image.blend(whole, grain, 0.06).save(file, kind, quality=92)
    return file.getvalue()


def _with_sun(picture: Image.Image, colour: Colour) -> Image.Image:
    width, height = picture.size
    glow = Image.new("L", picture.size)
    draw = ImageDraw.Draw(glow)
    centre = (width * 2 // 3, height * 2 // 5)
    for radius, light in ((260, 50), (150, 90), (60, 255)):
        draw.circle(centre, radius, fill=light)
    glow = glow.filter(ImageFilter.GaussianBlur(14))
    return Image.composite(Image.new("RGB", picture.size, colour), picture, glow)


def _ridge(
    chance: random.Random, width: int, shore: int, nearness: float
) -> list[tuple[int, float]]:
    """One line of hills: waves of falling height and rising frequency."""
    base = shore * (0.55 + 0.38 * nearness)
    waves = [(2**octave, chance.uniform(0, 2 * math.pi)) for octave in range(1, 8)]
    return [
        (x, base - sum(90 / f * math.sin(f * 2.2 * x / width + phase) for f, phase in waves))
        for x in range(0, width + 1, 4)
    ]


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue

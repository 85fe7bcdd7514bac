"""Colours of CSS Color 4, written as every renderer reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinycss2 import color4

from imgserve.worker.pixels.css import Token, bare, split_at_commas

Triple = tuple[float, float, float]
Matrix = tuple[Triple, Triple, Triple]

# CSS Color 4, 18: sample code for colour conversions; each to XYZ of D65, but for prophoto-rgb.
XYZ_TO_SRGB: Matrix = (
    (3.2409699419045226, -1.5373831775700939, -0.4986107602930034),
    (-0.9692436362808796, 1.8759675015077202, 0.0415550574071756),
    (0.0556300796969936, -0.2039769588889765, 1.0569715142428786),
)
D50_TO_D65: Matrix = (
    (0.9554734527042182, -0.023098536874261423, 0.0632593086610217),
    (-0.028369706963208136, 1.0099954580058226, 0.021041398966943008),
    (0.012314001688319899, -0.020507696433477912, 1.3303659366080753),
)
RGB_TO_XYZ: dict[str, Matrix] = {
    "display-p3": (
        (0.4865709486482162, 0.26566769316909306, 0.1982172852343625),
        (0.2289745640697488, 0.6917385218365064, 0.079286914093745),
        (0.0, 0.04511338185890264, 1.043944368900976),
    ),
    "a98-rgb": (
        (0.5766690429101305, 0.1855582379065463, 0.1882286462349947),
        (0.29734497525053605, 0.6273635662554661, 0.07529145849399788),
        (0.02703136138641234, 0.07068885253582723, 0.9913375368376388),
    ),
    "rec2020": (
        (0.6369580483012914, 0.14461690358620832, 0.1688809751641721),
        (0.2627002120112671, 0.6779980715188708, 0.05930171646986196),
        (0.0, 0.028072693049087428, 1.060985057710791),
    ),
    "prophoto-rgb": (
        (0.7977666449006423, 0.13518129740053308, 0.0313477341283922),
        (0.2880748288194013, 0.711835234241873, 0.00008993693872564),
        (0.0, 0.0, 0.8251046025104602),
    ),
}
# CSS Color 4, 10: names that stand for colours of the user agent, by Chromium's light scheme.
SYSTEM_COLORS = {
    "canvas": "#ffffff",
    "canvastext": "#000000",
    "linktext": "#0000ee",
    "visitedtext": "#551a8b",
    "activetext": "#ff0000",
    "buttonface": "#efefef",
    "buttontext": "#000000",
    "buttonborder": "#000000",
    "field": "#ffffff",
    "fieldtext": "#000000",
    "highlight": "#b5d5ff",
    "highlighttext": "#000000",
    "graytext": "#808080",
    "mark": "#ffff00",
    "marktext": "#000000",
}
COLOR_FUNCTIONS = frozenset(
    {"rgb", "rgba", "hsl", "hsla", "hwb", "lab", "lch", "oklab", "oklch", "color", "light-dark"}
)


def color_text(token: Token) -> str | None:
    """Write a colour as #rrggbb, rgba() or currentColor; None when the token is no colour."""
    if token.type == "function" and token.lower_name == "light-dark":
        schemes = split_at_commas(bare(token.arguments))
        return color_text(schemes[0][0]) if len(schemes) == 2 and schemes[0] else None
    if token.type == "ident" and token.lower_value in SYSTEM_COLORS:
        return SYSTEM_COLORS[token.lower_value]
    try:
        color = color4.parse_color(token)
    except (ValueError, IndexError, AttributeError):  # of arguments that are no numbers
        color = None
    if color is None or color == "currentcolor":
        return color and "currentColor"
    red, green, blue = (_level(channel) for channel in _to_srgb(color))
    if color.alpha >= 1:
        return f"#{red:02x}{green:02x}{blue:02x}"
    return f"rgba({red}, {green}, {blue}, {color.alpha:.4g})"


def _level(channel: float) -> int:
    """Give a channel as 0 to 255; what is outside of sRGB is cut off, as Skia does."""
    return math.floor(min(max(channel, 0.0), 1.0) * 255 + 0.5)


def _to_srgb(color: color4.Color) -> Sequence[float]:
    space = color.space
    values = [value or 0.0 for value in color.coordinates]
    if space == "srgb":
        return values
    if space == "hsl":
        # CSS Color 4, 7: saturation is between 0 and 100%.
        hue, saturation, lightness = values
        kept = min(max(saturation, 0.0), 100.0)
        return color4.Color("hsl", (hue, kept, lightness), 1).to("srgb").coordinates  # type: ignore[no-any-return]
    if space == "hwb":
        return color.to("srgb").coordinates  # type: ignore[no-any-return]
    if space == "srgb-linear":
        return [_srgb_gamma(value) for value in values]
    return [_srgb_gamma(value) for value in _multiply(XYZ_TO_SRGB, _to_xyz(color, values))]


def _to_xyz(color: color4.Color, values: Sequence[float]) -> Sequence[float]:
    """Convert to XYZ of D65."""
    space = color.space
    if space in {"lab", "lch", "xyz-d50"}:
        return _multiply(D50_TO_D65, color.to("xyz-d50").coordinates)
    if space in {"oklab", "oklch", "xyz-d65"}:
        return color.to("xyz-d65").coordinates  # type: ignore[no-any-return]
    xyz = _multiply(RGB_TO_XYZ[space], [_linear(space, value) for value in values])
    return _multiply(D50_TO_D65, xyz) if space == "prophoto-rgb" else xyz


def _linear(space: str, value: float) -> float:
    size = abs(value)
    if space == "a98-rgb":
        linear = size ** (563 / 256)
    elif space == "prophoto-rgb":
        linear = size / 16 if size <= 16 / 512 else size**1.8
    elif space == "rec2020":
        alpha, beta = 1.09929682680944, 0.018053968510807
        linear = size / 4.5 if size < beta * 4.5 else ((size + alpha - 1) / alpha) ** (1 / 0.45)
    else:
        linear = size / 12.92 if size <= 0.04045 else ((size + 0.055) / 1.055) ** 2.4
    return math.copysign(linear, value)


def _srgb_gamma(value: float) -> float:
    size = abs(value)
    coded = 1.055 * size ** (1 / 2.4) - 0.055 if size > 0.0031308 else 12.92 * size
    return math.copysign(coded, value)


def _multiply(matrix: Matrix, values: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, values, strict=True)) for row in matrix]

"""Lengths and angles of CSS, with calc(), as numbers of user units and degrees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from imgserve.worker.pixels.css import Token, Tokens, bare, split_at_commas

# CSS Values 4, 6.2: absolute units in px.
UNITS_PX = {
    "px": 1.0,
    "pt": 96 / 72,
    "pc": 16.0,
    "in": 96.0,
    "cm": 96 / 2.54,
    "mm": 96 / 25.4,
    "q": 96 / 101.6,
}
ANGLES_DEG = {"deg": 1.0, "grad": 0.9, "rad": 180 / math.pi, "turn": 360.0}
MATH_FUNCTIONS = frozenset({"calc", "min", "max", "clamp"})
FONT_SIZE_PX = 16.0


@dataclass(frozen=True, slots=True)
class Basis:
    """What relative lengths are relative to.

    Args:
        width_px, height_px: the nearest viewport in user units; for percentages.
        window_px: the outermost viewport; for vw and its like.
        font_px: the element's font size.
        root_font_px: the root's.
    """

    width_px: float
    height_px: float
    window_px: tuple[float, float]
    font_px: float = FONT_SIZE_PX
    root_font_px: float = FONT_SIZE_PX

    def with_font(self, font_px: float) -> Basis:
        """Give the basis of an element with another font size."""
        return replace(self, font_px=font_px)

    def whole(self, axis: str) -> float:
        """Give what 100% are: along x, along y, or for lengths without a direction."""
        if axis == "x":
            return self.width_px
        if axis == "y":
            return self.height_px
        return math.hypot(self.width_px, self.height_px) / math.sqrt(2)

    def unit_px(self, unit: str) -> float | None:
        """Give a unit of length in px."""
        if unit in UNITS_PX:
            return UNITS_PX[unit]
        width, height = self.window_px
        relative = {
            "em": self.font_px,
            "ex": self.font_px / 2,
            "ch": self.font_px / 2,
            "rem": self.root_font_px,
            "vw": width / 100,
            "vh": height / 100,
            "vmin": min(width, height) / 100,
            "vmax": max(width, height) / 100,
        }
        return relative.get(unit.removeprefix("s").removeprefix("d").removeprefix("l"))


def length_px(token: Token, basis: Basis, axis: str, *, unitless: bool = True) -> float | None:
    """Give a length, percentage or calculation of them in user units; None when it is none."""
    return _evaluate(token, lambda leaf: _leaf_px(leaf, basis, axis, unitless=unitless))


def angle_deg(token: Token) -> float | None:
    """Give an angle in degrees; None when it is none."""
    return _evaluate(token, _leaf_deg)


def number(token: Token) -> float | None:
    """Give a number or a percentage as a number; None when it is neither."""
    return _evaluate(token, _leaf_number)


def _leaf_px(token: Token, basis: Basis, axis: str, *, unitless: bool) -> float | None:
    if token.type == "number":
        return float(token.value) if unitless or token.value == 0 else None
    if token.type == "percentage":
        return float(token.value) * basis.whole(axis) / 100
    if token.type == "dimension":
        unit = basis.unit_px(token.lower_unit)
        return None if unit is None else float(token.value) * unit
    return None


def _leaf_deg(token: Token) -> float | None:
    if token.type == "number":
        return float(token.value)
    if token.type == "dimension" and token.lower_unit in ANGLES_DEG:
        return float(token.value) * ANGLES_DEG[token.lower_unit]
    return None


def _leaf_number(token: Token) -> float | None:
    if token.type == "number":
        return float(token.value)
    return float(token.value) / 100 if token.type == "percentage" else None


Leaf = Callable[[Token], float | None]


def _evaluate(token: Token, leaf: Leaf) -> float | None:
    if token.type == "function" and token.lower_name in MATH_FUNCTIONS:
        try:
            value = _function(token.lower_name, token.arguments, _in_calculation(leaf))
        except (ArithmeticError, ValueError):
            return None
        return value if value is None or math.isfinite(value) else None
    return leaf(token)


def _in_calculation(leaf: Leaf) -> Leaf:
    """Take plain numbers as factors: a calculation is right in its types, or was dropped."""

    def value(token: Token) -> float | None:
        return float(token.value) if token.type == "number" else leaf(token)

    return value


def _function(name: str, arguments: Tokens, leaf: Leaf) -> float | None:
    values = [_sum(bare(part), leaf) for part in split_at_commas(arguments)]
    known = [value for value in values if value is not None]
    if len(known) != len(values) or not known:
        return None
    if name == "calc":
        return known[0] if len(known) == 1 else None
    if name == "clamp":
        return max(known[0], min(known[1], known[2])) if len(known) == 3 else None
    return min(known) if name == "min" else max(known)


def _sum(tokens: Tokens, leaf: Leaf) -> float | None:
    """Evaluate sums of products; each operator stands between two values."""
    total, sign, product = 0.0, 1.0, _value(tokens[0], leaf) if tokens else None
    if product is None or len(tokens) % 2 == 0:
        return None
    for operator, token in zip(tokens[1::2], tokens[2::2], strict=True):
        value = _value(token, leaf)
        if value is None:
            return None
        if operator == "*":
            product *= value
        elif operator == "/":
            product /= value
        elif operator in ("+", "-"):
            total += sign * product
            sign, product = (1.0 if operator == "+" else -1.0), value
        else:
            return None
    return total + sign * product


def _value(token: Token, leaf: Leaf) -> float | None:
    if token.type == "() block":
        return _sum(bare(token.content), leaf)
    if token.type == "function" and token.lower_name in MATH_FUNCTIONS:
        return _function(token.lower_name, token.arguments, leaf)
    if token.type == "ident" and token.lower_value in {"pi", "e"}:
        return math.pi if token.lower_value == "pi" else math.e
    return leaf(token)

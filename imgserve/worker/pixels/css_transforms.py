"""CSS transforms as the transform attribute of SVG (CSS Transforms 1 and 2, in the plane)."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Final

from imgserve.worker.pixels.css import Token, Tokens, bare, split_at_commas
from imgserve.worker.pixels.css_lengths import Basis, angle_deg, length_px, number

_ORIGINS: Final = {"left": 0.0, "top": 0.0, "center": 50.0, "right": 100.0, "bottom": 100.0}
_VERTICAL: Final = frozenset({"top", "bottom"})


class Transform:
    """The transform of one element: its properties, and what they make of the attribute.

    Args:
        unsupported: told of what is left out.
    """

    def __init__(self, unsupported: Callable[[str], None]) -> None:
        self._unsupported = unsupported
        self._values: dict[str, Tokens] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no property was given."""
        return not self._values

    def take(self, name: str, tokens: Tokens) -> None:
        """Take one of transform, translate, rotate, scale and transform-origin."""
        self._values[name] = bare(tokens)

    def write(self, element: ET.Element, basis: Basis) -> None:
        """Set the attribute; CSS's transform takes the place of the one that is there."""
        parts = []
        for name in ("translate", "rotate", "scale"):
            tokens = self._values.get(name, [])
            if tokens and not _is_none(tokens):
                parts.append(self._single(name, tokens, basis))
        functions = self._values.get("transform")
        if functions is None:
            parts.append(element.get("transform", ""))
        elif not _is_none(functions):
            parts += [self._function(token, basis) for token in functions]
        text = " ".join(part for part in parts if part)
        origin = self._origin(basis)
        if text and origin != (0.0, 0.0):
            x, y = origin
            text = f"translate({x:.9g} {y:.9g}) {text} translate({-x:.9g} {-y:.9g})"
        if text:
            element.set("transform", text)
        else:
            element.attrib.pop("transform", None)

    def _single(self, name: str, tokens: Tokens, basis: Basis) -> str:
        if name == "translate":
            x, y = (*_lengths(tokens, basis), 0.0)[:2]
            return f"translate({x:.9g} {y:.9g})"
        if name == "scale":
            factors = [number(token) for token in tokens]
            if None in factors:
                return ""
            return f"scale({factors[0]:.9g} {factors[min(1, len(factors) - 1)]:.9g})"
        angle = angle_deg(tokens[-1])
        return "" if angle is None else f"rotate({angle:.9g})"

    def _function(self, token: Token, basis: Basis) -> str:
        if token.type != "function":
            return ""
        name = token.lower_name
        parts = [bare(part) for part in split_at_commas(token.arguments)]
        arguments = [part[0] for part in parts if len(part) == 1]
        if len(arguments) != len(parts):
            return ""
        written = _written(name, arguments, basis)
        if written is None:
            self._unsupported(f"the transform {name}() is not supported")
            return ""
        return written

    def _origin(self, basis: Basis) -> tuple[float, float]:
        tokens = self._values.get("transform-origin", [])
        if not tokens:
            return 0.0, 0.0
        tokens = tokens[:2]
        words = [token.lower_value if token.type == "ident" else "" for token in tokens]
        if words[0] in _VERTICAL or (len(words) == 2 and words[1] in ("left", "right")):
            tokens = tokens[::-1] if len(tokens) == 2 else [None, tokens[0]]
        if len(tokens) == 1:
            tokens = [tokens[0], None]
        return _place(tokens[0], basis, "x"), _place(tokens[1], basis, "y")


def _place(token: Token | None, basis: Basis, axis: str) -> float:
    if token is None:
        return basis.whole(axis) / 2
    if token.type == "ident":
        return basis.whole(axis) * _ORIGINS.get(token.lower_value, 0.0) / 100
    return length_px(token, basis, axis) or 0.0


def _lengths(tokens: Tokens, basis: Basis) -> list[float]:
    return [
        length_px(token, basis, axis) or 0.0
        for token, axis in zip(tokens[:2], ("x", "y"), strict=False)
    ]


def _written(name: str, arguments: Tokens, basis: Basis) -> str | None:
    """Write one function; None when it is not one of the plane."""
    if name in ("rotate", "rotatez", "skewx", "skewy", "skew"):
        angles = [angle for token in arguments if (angle := angle_deg(token)) is not None]
        return _turned(name, angles) if angles and len(angles) == len(arguments) else None
    if name.startswith("translate"):
        return _moved(name, arguments, basis)
    return _scaled(name, [number(token) for token in arguments])


def _moved(name: str, arguments: Tokens, basis: Basis) -> str | None:
    if name in ("translate", "translate3d"):
        x, y = (*_lengths(arguments, basis), 0.0)[:2]
        return f"translate({x:.9g} {y:.9g})"
    if name in ("translatex", "translatey") and arguments:
        axis = name[-1]
        length = length_px(arguments[0], basis, axis) or 0.0
        return f"translate({length:.9g} 0)" if axis == "x" else f"translate(0 {length:.9g})"
    return "" if name == "translatez" else None


def _scaled(name: str, numbers: list[float | None]) -> str | None:
    if None in numbers or not numbers:
        return None
    if name in ("scale", "scale3d"):
        return f"scale({numbers[0]:.9g} {numbers[min(1, len(numbers) - 1)]:.9g})"
    if name in ("scalex", "scaley"):
        return f"scale({numbers[0]:.9g} 1)" if name == "scalex" else f"scale(1 {numbers[0]:.9g})"
    if name == "matrix" and len(numbers) == 6:
        return f"matrix({' '.join(f'{value:.9g}' for value in numbers)})"
    return "" if name in ("scalez", "perspective") else None


def _turned(name: str, angles: list[float]) -> str:
    if name in ("rotate", "rotatez"):
        return f"rotate({angles[0]:.9g})"
    if name == "skew":
        across, down = (*angles, 0.0)[:2]
        tangents = (math.tan(math.radians(angle)) for angle in (down, across))
        return "matrix(1 {:.9g} {:.9g} 1 0 0)".format(*tangents)
    return f"{'skewX' if name == 'skewx' else 'skewY'}({angles[0]:.9g})"


def _is_none(tokens: Tokens) -> bool:
    return len(tokens) == 1 and tokens[0].type == "ident" and tokens[0].lower_value == "none"

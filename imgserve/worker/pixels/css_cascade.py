"""Resolve an SVG's styles into what renderers read: attributes, and simple style attributes.

resvg knows little of CSS's selectors, values and conditions, so all of them are resolved here, as
a browser does for an image: the cascade with layers, custom properties, colours of CSS Color 4,
lengths, geometry and transforms. What cannot be resolved is told.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import cssselect2
import tinycss2

from imgserve.picture_warnings import WarningCollector, WarningName
from imgserve.worker.pixels.css import Token, Tokens, bare, inside, write
from imgserve.worker.pixels.css_colors import COLOR_FUNCTIONS, SYSTEM_COLORS, color_text
from imgserve.worker.pixels.css_conditions import matches_media
from imgserve.worker.pixels.css_lengths import MATH_FUNCTIONS, UNITS_PX, Basis, length_px, number
from imgserve.worker.pixels.css_rules import UNLAYERED, Sheets, declarations_of, stripped
from imgserve.worker.pixels.css_transforms import Transform
from imgserve.worker.pixels.css_variables import InvalidValue, Scope, substituted

SVG: Final = "{http://www.w3.org/2000/svg}"
COLOR_PROPERTIES: Final = frozenset(
    {"fill", "stroke", "color", "stop-color", "flood-color", "lighting-color"}
)
NUMBER_PROPERTIES: Final = frozenset(
    {"opacity", "fill-opacity", "stroke-opacity", "stop-opacity", "flood-opacity"}
)
LENGTH_PROPERTIES: Final = {
    "stroke-width": "d", "stroke-dashoffset": "d", "stroke-dasharray": "d", "font-size": "x",
    "letter-spacing": "x", "word-spacing": "x", "baseline-shift": "y",
}  # fmt: skip
# CSS geometry (SVG 2, 7): the property, its axis, and whose attribute it is.
BOXES: Final = frozenset({"rect", "image", "use", "svg", "foreignObject"})
GEOMETRY: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "x": ("x", BOXES), "y": ("y", BOXES), "width": ("x", BOXES), "height": ("y", BOXES),
    "cx": ("x", frozenset({"circle", "ellipse"})), "cy": ("y", frozenset({"circle", "ellipse"})),
    "r": ("d", frozenset({"circle"})), "rx": ("x", frozenset({"rect", "ellipse"})),
    "ry": ("y", frozenset({"rect", "ellipse"})),
}  # fmt: skip
# Units that renderers know themselves.
KNOWN_UNITS: Final = frozenset({*UNITS_PX, "em", "ex"} - {"q"})
TRANSFORMS: Final = ("transform", "translate", "rotate", "scale", "transform-origin")
BACKGROUNDS: Final = frozenset({"background", "background-color"})
# What `initial` means where it is not what a missing attribute means.
INITIAL: Final = {
    "fill": "black", "stroke": "none", "opacity": "1", "fill-opacity": "1", "color": "black",
    "stroke-opacity": "1", "stroke-width": "1", "display": "inline", "visibility": "visible",
    "fill-rule": "nonzero", "stroke-dasharray": "none", "stop-color": "black", "filter": "none",
    "mask": "none", "clip-path": "none", "font-weight": "normal", "font-style": "normal",
    "text-anchor": "start", "marker-start": "none", "marker-mid": "none", "marker-end": "none",
}  # fmt: skip
INHERITED: Final = frozenset(
    {"fill", "stroke", "color", "fill-opacity", "stroke-opacity", "stroke-width", "visibility",
     "fill-rule", "clip-rule", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap",
     "stroke-linejoin", "stroke-miterlimit", "font-family", "font-size", "font-style",
     "font-weight", "text-anchor", "marker-start", "marker-mid", "marker-end", "letter-spacing",
     "word-spacing", "paint-order", "shape-rendering", "text-rendering", "direction"}
)  # fmt: skip
# A style attribute without any of these renderers read as it is.
_INTRICATE: Final = re.compile(
    r"\(|\\|!|--|inherit|initial|unset|revert|rebeccapurple|\bcanvas|"
    r"(?:^|;)\s*(?:x|y|cx|cy|r|rx|ry|width|height|d|transform|translate|rotate|scale|"
    r"background(?:-color)?)\s*:|\d(?:r?em|v[wh]|vmin|vmax|q|ch|rem|%)\b",
    re.IGNORECASE,
)
_INTRICATE_COLOR: Final = re.compile(r"\(|rebeccapurple|canvas|text\b", re.IGNORECASE)
_HASH_WITH_ALPHA: Final = re.compile(r"[0-9a-f]{4}(?:[0-9a-f]{4})?\Z", re.IGNORECASE)
_BASIC_SHAPE: Final = frozenset({"circle", "ellipse", "inset", "polygon", "path", "rect", "xywh"})

Values = dict[str, Tokens]


def resolve_styles(
    root: ET.Element, size_px: tuple[float, float], warnings: WarningCollector
) -> None:
    """Resolve all styles of a document in place; its style elements are empty afterwards.

    Args:
        root: of the document.
        size_px: the viewport that it is drawn in.
        warnings: takes what is not supported.

    Raises:
        SvgInvalid: a style is nested deeper than any honest one.
    """
    sheets = [each for each in root.iter() if _local(each) == "style"]
    if not sheets and not _has_intricate_attributes(root):
        return
    basis = _basis(root, size_px)

    def unsupported(what: str) -> None:
        warnings.add(WarningName.STYLE_NOT_APPLIED, what)

    rules = Sheets(basis, unsupported)
    for sheet in sheets:
        media = tinycss2.parse_component_value_list(sheet.get("media", ""))
        kind = sheet.get("type", "text/css").strip().lower()
        if kind in ("", "text/css") and matches_media(media, basis):
            rules.add("".join(sheet.itertext()))
        sheet.clear()
    _Cascade(root, rules, basis, unsupported).run()


def _has_intricate_attributes(root: ET.Element) -> bool:
    for element in root.iter():
        style = element.get("style")
        if style and _INTRICATE.search(style):
            return True
        for name in COLOR_PROPERTIES:
            value = element.get(name)
            if value and _INTRICATE_COLOR.search(value) and not value.lstrip().startswith("url("):
                return True
    return any("var(" in value for element in root.iter() for value in element.attrib.values())


@dataclass(slots=True)
class _Cascade:
    """The walk over the document."""

    root: ET.Element
    rules: Sheets
    basis: Basis
    unsupported: Callable[[str], None]
    # By element: what its children inherit of custom properties, and its font size.
    _scopes: dict[ET.Element, Scope] = field(default_factory=dict)
    _fonts_px: dict[ET.Element, float] = field(default_factory=dict)

    def run(self) -> None:
        wrapper = cssselect2.ElementWrapper.from_xml_root(self.root)
        background = ""
        for wrapped in list(wrapper.iter_subtree()):
            element = wrapped.etree_element
            parent = wrapped.parent.etree_element if wrapped.parent is not None else None
            values = self._winners(wrapped)
            scope = self._scope(element, parent, values)
            values = self._attributes(element) | values
            resolved = self._resolved(values, scope)
            self._fonts_px[element] = self._font_px(parent, resolved)
            if element is self.root:
                background = self._background(resolved)
            self._write(element, resolved, self.basis.with_font(self._fonts_px[element]))
        if background:
            self._paint_behind(background)

    def _winners(self, wrapped: cssselect2.ElementWrapper) -> Values:
        """Return the cascaded declarations of an element (CSS Cascade 5, 6)."""
        found: list[tuple[tuple[object, ...], str, Tokens]] = []
        for specificity, _, _, payload in self.rules.matcher.match(wrapped):
            layer, order, declarations = payload
            for declaration in declarations:
                # Important declarations win, and among them the order of layers is turned round.
                rank = -layer if declaration.important else layer
                key = (declaration.important, 0, rank, specificity, order)
                found.append((key, declaration.name, declaration.value))
        for declaration in declarations_of(wrapped.etree_element.get("style", "")):
            key = (declaration.important, 1, UNLAYERED, (0, 0, 0), 0)
            found.append((key, declaration.name, declaration.value))
        found.sort(key=lambda each: each[0])
        return {
            name if name.startswith("--") else name.lower(): stripped(value)
            for _, name, value in found
        }

    def _scope(self, element: ET.Element, parent: ET.Element | None, values: Values) -> Scope:
        own = {name: value for name, value in values.items() if name.startswith("--")}
        above = self._scopes.get(parent) if parent is not None else None
        scope = Scope(above, own) if own or above is None else above
        self._scopes[element] = scope
        for name in own:
            del values[name]
        return scope

    def _attributes(self, element: ET.Element) -> Values:
        """Return the presentation attributes that have to be resolved as well."""
        found: Values = {}
        for name, value in element.attrib.items():
            color = name in COLOR_PROPERTIES and _INTRICATE_COLOR.search(value)
            if name != "style" and (color or "var(" in value):
                found[name] = stripped(
                    tinycss2.parse_component_value_list(value, skip_comments=True)
                )
        return found

    def _resolved(self, values: Values, scope: Scope) -> Values:
        resolved: Values = {}
        for name, value in values.items():
            try:
                tokens = stripped(substituted(value, scope))
            except InvalidValue:
                tokens = _keyword("unset")
            word = _word(tokens)
            if word in ("unset", "revert", "revert-layer"):
                word = "inherit" if name in INHERITED else "initial"
                tokens = _keyword(word)
            if word == "initial" and name in INITIAL:
                tokens = _keyword(INITIAL[name])
            resolved[name] = tokens
        return resolved

    def _font_px(self, parent: ET.Element | None, values: Values) -> float:
        above = self._fonts_px.get(parent, 16.0) if parent is not None else 16.0
        tokens = bare(values.get("font-size", []))
        if len(tokens) != 1:
            return above
        if tokens[0].type == "percentage":
            return above * float(tokens[0].value) / 100
        size = length_px(tokens[0], self.basis.with_font(above), "x")
        return above if size is None else size

    def _write(self, element: ET.Element, values: Values, basis: Basis) -> None:
        """Write an element's values as attributes, and the rest as its style."""
        name = _local(element)
        lines = []
        transform = Transform(self.unsupported)
        for prop, tokens in values.items():
            if prop in GEOMETRY:
                self._write_geometry(element, name, prop, tokens, basis)
            elif prop == "d":
                _write_path(element, name, tokens)
            elif prop in TRANSFORMS:
                transform.take(prop, tokens)
            elif prop not in BACKGROUNDS and tokens:
                text = self._text(prop, tokens, basis)
                if prop in element.attrib:
                    element.set(prop, text)
                lines.append(f"{prop}:{text}")
        if not transform.is_empty:
            transform.write(element, basis)
        if lines:
            element.set("style", ";".join(lines))
        else:
            element.attrib.pop("style", None)

    def _write_geometry(
        self, element: ET.Element, name: str, prop: str, tokens: Tokens, basis: Basis
    ) -> None:
        axis, owners = GEOMETRY[prop]
        if name not in owners:
            return
        word = _word(tokens)
        if word in ("auto", "initial", "inherit"):
            element.attrib.pop(prop, None)
            return
        if len(tokens) == 1 and tokens[0].type == "percentage":
            element.set(prop, write(tokens))
            return
        # CSS wants a unit where attributes do not.
        length = length_px(tokens[0], basis, axis, unitless=False) if len(tokens) == 1 else None
        if length is not None:
            element.set(prop, f"{length:.9g}")

    def _text(self, prop: str, tokens: Tokens, basis: Basis) -> str:
        """Write a value in the words that renderers know."""
        if prop in COLOR_PROPERTIES:
            tokens = [_plain_color(token) for token in tokens]
        elif prop in NUMBER_PROPERTIES and len(tokens) == 1:
            value = number(tokens[0])
            return write(tokens) if value is None else f"{value:.9g}"
        elif prop in LENGTH_PROPERTIES:
            axis = LENGTH_PROPERTIES[prop]
            tokens = [_plain_length(token, basis, axis) for token in tokens]
        elif prop == "filter":
            tokens = _with_plain_colors(tokens)
        elif prop == "clip-path" and _has_function(tokens, _BASIC_SHAPE):
            self.unsupported("clip-path with a basic shape is not supported")
        return write(tokens)

    def _background(self, values: Values) -> str:
        """Return the colour behind the whole picture, or nothing."""
        for prop in ("background-color", "background"):
            for token in values.get(prop, []):
                color = color_text(token)
                if color is not None:
                    return color
                if token.type == "url" or (
                    token.type == "function" and token.lower_name not in COLOR_FUNCTIONS
                ):
                    self.unsupported("background images are not supported")
        return ""

    def _paint_behind(self, color: str) -> None:
        """Put a rectangle before all else that covers whatever of the canvas is seen."""
        if color == "transparent" or color.endswith(", 0)"):
            return
        side = 1e6 * max(self.basis.width_px, self.basis.height_px, 1.0) / 1e3
        behind = ET.Element(f"{SVG}rect")
        behind.attrib |= {
            "x": f"{-side:.9g}", "y": f"{-side:.9g}", "width": f"{2 * side:.9g}",
            "height": f"{2 * side:.9g}",
            "style": f"fill:{color};fill-opacity:1;stroke:none;visibility:visible",
        }  # fmt: skip
        self.root.insert(0, behind)


def _basis(root: ET.Element, size_px: tuple[float, float]) -> Basis:
    """Return what lengths are relative to: the viewBox, else the viewport."""
    box = re.split(r"[\s,]+", root.get("viewBox", "").strip())
    try:
        width, height = float(box[2]), float(box[3])
    except (IndexError, ValueError):
        width, height = size_px
    return Basis(width, height, size_px)


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _word(tokens: Tokens) -> str:
    return str(tokens[0].lower_value) if len(tokens) == 1 and tokens[0].type == "ident" else ""


def _keyword(word: str) -> Tokens:
    return (
        [tinycss2.ast.IdentToken(0, 0, word)]
        if not word.isdigit()
        else [tinycss2.parse_one_component_value(word)]
    )


def _plain_color(token: Token) -> Token:
    """Write a colour that renderers may not know as one that they do."""
    intricate = (
        (token.type == "function" and token.lower_name in COLOR_FUNCTIONS)
        or (token.type == "ident" and token.lower_value in {"rebeccapurple", *SYSTEM_COLORS})
        or (token.type == "hash" and _HASH_WITH_ALPHA.match(token.value))
    )
    text = color_text(token) if intricate else None
    return token if text is None else tinycss2.parse_one_component_value(text)


def _with_plain_colors(tokens: Tokens) -> Tokens:
    written = []
    for token in tokens:
        plain = _plain_color(token)
        if plain is token and token.type == "function":
            contents = inside(token)
            contents[:] = _with_plain_colors(contents)
        written.append(plain)
    return written


def _plain_length(token: Token, basis: Basis, axis: str) -> Token:
    known = token.type == "dimension" and token.lower_unit in KNOWN_UNITS
    calculated = token.type == "function" and token.lower_name in MATH_FUNCTIONS
    if known or not (calculated or token.type == "dimension"):
        return token
    length = length_px(token, basis, axis)
    return token if length is None else tinycss2.parse_one_component_value(f"{length:.9g}px")


def _has_function(tokens: Tokens, names: frozenset[str]) -> bool:
    return any(token.type == "function" and token.lower_name in names for token in tokens)


def _write_path(element: ET.Element, name: str, tokens: Tokens) -> None:
    """Take the shape of a path from its style: path("M0 0"), or none."""
    if name != "path":
        return
    if _word(tokens) == "none":
        element.attrib.pop("d", None)
    elif len(tokens) == 1 and tokens[0].type == "function" and tokens[0].lower_name == "path":
        strings = [each.value for each in tokens[0].arguments if each.type == "string"]
        if len(strings) == 1:
            element.set("d", strings[0])

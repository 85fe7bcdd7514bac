"""The rules of an SVG's style sheets, flat: nesting, media, layers and conditions resolved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import cssselect2
import tinycss2

from imgserve.worker.pixels.css import Token, Tokens, bare, require_shallow, write
from imgserve.worker.pixels.css_conditions import matches_media, supports
from imgserve.worker.pixels.css_lengths import Basis

# What is nested deeper than this no author wrote; each level multiplies the selector.
NESTING_LIMIT: Final = 20
SELECTOR_LIMIT_CHARS: Final = 20_000
# At-rules that no still picture shows, or that browsers do not apply in an image.
SILENT: Final = frozenset(
    {"charset", "namespace", "import", "page", "keyframes", "-webkit-keyframes", "property",
     "counter-style", "font-feature-values", "view-transition", "font-palette-values"}
)  # fmt: skip
UNLAYERED: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Declaration:
    """One declaration with its place in the cascade; `order` grows with the document."""

    name: str
    value: Tokens
    important: bool
    layer: int
    specificity: tuple[int, int, int]
    order: int


@dataclass(slots=True)
class Sheets:
    """Collects the rules of all sheets.

    Args:
        basis: what media queries are held against.
        unsupported: told of what is left out.
    """

    basis: Basis
    unsupported: Callable[[str], None]
    matcher: Any = field(default_factory=cssselect2.Matcher)
    _layers: dict[str, int] = field(default_factory=dict)
    _order: int = 0

    def add(self, text: str) -> None:
        """Take a sheet's rules.

        Raises:
            SvgInvalid: its blocks are nested too deeply.
        """
        require_shallow(tinycss2.parse_component_value_list(text, skip_comments=True))
        rules = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
        self._take(rules, [], "", 0)

    def _take(self, rules: Tokens, parents: list[str], layer: str, depth: int) -> None:
        """Take rules; parents are the selectors that nested ones stand in."""
        declarations: Tokens = []
        for rule in rules:
            if rule.type == "declaration":
                declarations.append(rule)
            elif rule.type == "qualified-rule":
                self._take_rule(rule, parents, layer, depth)
            elif rule.type == "at-rule":
                self._take_at_rule(rule, parents, layer, depth)
        if declarations and parents:
            self._enter(parents, declarations, layer)

    def _take_rule(self, rule: Token, parents: list[str], layer: str, depth: int) -> None:
        selector = _nested_in(parents, rule.prelude)
        if depth > NESTING_LIMIT or len(selector) > SELECTOR_LIMIT_CHARS:
            self.unsupported("rules are nested too deeply")
            return
        contents = tinycss2.parse_blocks_contents(
            rule.content, skip_comments=True, skip_whitespace=True
        )
        self._take(contents, [selector], layer, depth + 1)

    def _take_at_rule(self, rule: Token, parents: list[str], layer: str, depth: int) -> None:
        name = rule.lower_at_keyword
        if name == "layer":
            self._take_layer(rule, parents, layer, depth)
        elif name == "media":
            if matches_media(rule.prelude, self.basis):
                self._take_block(rule, parents, layer, depth)
        elif name == "supports":
            if supports(rule.prelude, lambda _name, _value: True, _is_selector):
                self._take_block(rule, parents, layer, depth)
        elif name == "font-face":
            self.unsupported("a font that the SVG brings along (@font-face) is not used")
        elif name not in SILENT:
            self.unsupported(f"@{name} is not supported")

    def _take_layer(self, rule: Token, parents: list[str], layer: str, depth: int) -> None:
        names = [name.strip() for name in write(rule.prelude).split(",")]
        for name in names:
            inner = f"{layer}.{name}" if layer else name
            if not name:  # anonymous: each is another
                inner = f"{layer}.#{len(self._layers)}"
            self._layers.setdefault(inner, len(self._layers))
            if rule.content is not None:
                self._take_block(rule, parents, inner, depth)

    def _take_block(self, rule: Token, parents: list[str], layer: str, depth: int) -> None:
        if rule.content is None or depth > NESTING_LIMIT:
            return
        contents = tinycss2.parse_blocks_contents(
            rule.content, skip_comments=True, skip_whitespace=True
        )
        self._take(contents, parents, layer, depth + 1)

    def _enter(self, parents: list[str], declarations: Tokens, layer: str) -> None:
        try:
            selectors = cssselect2.compile_selector_list(parents[-1])
        except (cssselect2.SelectorError, ValueError, RecursionError):
            return  # as browsers: a rule of which one selector is unknown does not apply
        layer_index = self._layers[layer] if layer else UNLAYERED
        for selector in selectors:
            if selector.pseudo_element is None and not selector.never_matches:
                self._order += 1
                self.matcher.add_selector(selector, (layer_index, self._order, declarations))


def _nested_in(parents: list[str], prelude: Tokens) -> str:
    """Write a rule's selector, with its parents' in place of & (CSS Nesting 1)."""
    own = write(prelude)
    if not parents:
        return own
    parent = f":is({parents[-1]})"
    if any(token == "&" for token in _all(prelude)):
        return write(_with_parent(prelude, tinycss2.parse_component_value_list(parent)))
    return ", ".join(f"{parent} {part.strip()}" for part in _parts(prelude))


def _parts(prelude: Tokens) -> list[str]:
    parts: list[Tokens] = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return [write(part) for part in parts]


def _with_parent(tokens: Tokens, parent: Tokens) -> Tokens:
    written: Tokens = []
    for token in tokens:
        if token == "&":
            written += parent
            continue
        if token.type == "function":
            token.arguments[:] = _with_parent(token.arguments, parent)
        written.append(token)
    return written


def _all(tokens: Tokens) -> Tokens:
    found: Tokens = []
    for token in tokens:
        found.append(token)
        if token.type == "function":
            found += _all(token.arguments)
    return found


def _is_selector(text: str) -> bool:
    try:
        return bool(cssselect2.compile_selector_list(text))
    except (cssselect2.SelectorError, ValueError):
        return False


def declarations_of(text: str) -> Tokens:
    """Read the declarations of a style attribute."""
    found = tinycss2.parse_blocks_contents(text, skip_comments=True, skip_whitespace=True)
    return [each for each in found if each.type == "declaration"]


def stripped(tokens: Tokens) -> Tokens:
    """Take the white space from both ends."""
    start, end = 0, len(tokens)
    while start < end and not bare(tokens[start : start + 1]):
        start += 1
    while end > start and not bare(tokens[end - 1 : end]):
        end -= 1
    return tokens[start:end]

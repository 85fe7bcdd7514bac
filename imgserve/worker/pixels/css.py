"""The one CSS tokenizer: component values, within a depth that nothing honest reaches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tinycss2

from imgserve.errors import SvgInvalid

# tinycss2 has no types.
Token = Any
Tokens = list[Any]

# Blocks and functions in each other; writing them out recurses.
DEPTH_LIMIT = 100
BLANK = frozenset({"whitespace", "comment"})


def parse_values(text: str) -> Tokens:
    """Split a text into component values, without comments.

    Raises:
        SvgInvalid: its blocks are nested deeper than any style's.
    """
    return require_shallow(tinycss2.parse_component_value_list(text, skip_comments=True))


def require_shallow(tokens: Tokens) -> Tokens:
    """Give the tokens back.

    Raises:
        SvgInvalid: they are nested deeper than any style's.
    """
    level: Sequence[Token] = tokens
    for _ in range(DEPTH_LIMIT):
        level = [inner for token in level for inner in inside(token)]
        if not level:
            return tokens
    raise SvgInvalid(f"the SVG's style is nested deeper than the {DEPTH_LIMIT} levels allowed")


def inside(token: Token) -> Tokens:
    """Give what a block or a function holds."""
    if token.type == "function":
        return token.arguments  # type: ignore[no-any-return]
    if token.type.endswith(" block"):
        return token.content  # type: ignore[no-any-return]
    return []


def bare(tokens: Iterable[Token]) -> Tokens:
    """Leave out white space and comments."""
    return [token for token in tokens if token.type not in BLANK]


def split_at_commas(tokens: Iterable[Token]) -> list[Tokens]:
    """Give the parts between top-level commas."""
    parts: list[Tokens] = [[]]
    for token in tokens:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def write(tokens: Iterable[Token]) -> str:
    """Write tokens as text, without white space around it."""
    return str(tinycss2.serialize(list(tokens))).strip()


def without_outside_urls(text: str) -> str:
    """Write a value anew with each url() that is not a fragment of this document made empty.

    Written anew, and not cut, so that a renderer sees just what was seen here.
    """
    return str(tinycss2.serialize(_inside_only(parse_values(text))))


def may_hold_url(text: str) -> bool:
    """Whether there may be a url() in a text, written with escapes too."""
    return "(" in text and ("url" in text.lower() or "\\" in text)


def without_imports(tokens: Tokens) -> Tokens:
    """Leave out each @import up to its own semicolon.

    A semicolon in its string or url() does not end it, and in a comment it is no rule at all; every
    rule that follows is kept (CSS Syntax 3, 5.4.2).
    """
    kept = []
    in_import = False
    for token in tokens:
        in_import |= token.type == "at-keyword" and token.lower_value == "import"
        if not in_import:
            kept.append(token)
        elif token == ";" or token.type == "{} block":
            in_import = False
    return kept


def clean_sheet(text: str) -> str:
    """Take imports and outside references out of a style sheet.

    Raises:
        SvgInvalid: its blocks are nested deeper than any style's.
    """
    return str(tinycss2.serialize(_inside_only(without_imports(parse_values(text)))))


def _inside_only(tokens: Iterable[Token]) -> Tokens:
    kept = []
    for token in tokens:
        if token.type == "url":
            kept.append(_fragment(token.value))
        elif token.type == "function" and token.lower_name == "url":
            arguments = bare(token.arguments)
            texts = [each.value for each in arguments[:1] if each.type == "string"]
            kept.append(_fragment(texts[0] if texts else ""))
        else:
            contents = inside(token)
            contents[:] = _inside_only(contents)
            kept.append(token)
    return kept


def _fragment(address: str) -> Token:
    """Make a url() of an address, of an empty fragment when it leads outside."""
    address = address.strip()
    shown = address if address.startswith("#") else "#"
    quoted = tinycss2.serializer.serialize_string_value(shown)
    plain = shown[1:].replace("-", "").replace("_", "").replace(".", "").isalnum()
    text = shown if plain or shown == "#" else f'"{quoted}"'
    return tinycss2.ast.URLToken(0, 0, shown, f"url({text})")

"""Custom properties: var() with fallbacks, inherited, and bounded whatever refers to what."""

from __future__ import annotations

from typing import Final

import tinycss2

from imgserve.worker.pixels.css import Token, Tokens, bare, inside, write

# A chain, and what it grows to; a ring ends here too.
CHAIN_LIMIT: Final = 100
TOKENS_LIMIT: Final = 10_000


class InvalidValue(ValueError):
    """Raised when a value refers to a property that is not there (CSS Variables 1, 3.1)."""


class Scope:
    """The custom properties of an element, over those of its parent."""

    def __init__(self, parent: Scope | None, own: dict[str, Tokens]) -> None:
        self.parent = parent
        self.own = own
        self.known: dict[str, Tokens | None] = {}

    def value(self, name: str, depth: int = 0) -> Tokens:
        """Return a property's value, its own references resolved.

        Raises:
            InvalidValue: it has none, or refers to itself.
        """
        scope: Scope | None = self
        while scope is not None and name not in scope.own:
            scope = scope.parent
        if scope is None:
            raise InvalidValue(name)
        if name not in scope.known:
            scope.known[name] = None  # a reference to itself finds it invalid
            try:
                scope.known[name] = substituted(scope.own[name], scope, depth + 1)
            except InvalidValue:
                pass
        known = scope.known[name]
        if known is None:
            raise InvalidValue(name)
        return known


def substituted(tokens: Tokens, scope: Scope, depth: int = 0) -> Tokens:
    """Put values in place of each var().

    Raises:
        InvalidValue: one has neither value nor fallback, or they grow without end.
    """
    if depth > CHAIN_LIMIT:
        raise InvalidValue("the chain is too long")
    if not _refers(tokens):
        return tokens
    written: Tokens = []
    for token in tokens:
        if token.type == "function" and token.lower_name == "var":
            written += _looked_up(token, scope, depth)
        elif token.type == "function":
            written.append(
                tinycss2.ast.FunctionBlock(
                    token.source_line,
                    token.source_column,
                    token.name,
                    substituted(token.arguments, scope, depth),
                )
            )
        else:
            written.append(token)
        if len(written) > TOKENS_LIMIT:
            raise InvalidValue("the value is too long")
    return written


def _looked_up(token: Token, scope: Scope, depth: int) -> Tokens:
    arguments = token.arguments
    comma = next((at for at, each in enumerate(arguments) if each == ","), len(arguments))
    name = write(bare(arguments[:comma]))
    try:
        return scope.value(name, depth)
    except InvalidValue:
        if comma == len(arguments):
            raise
        return substituted(arguments[comma + 1 :], scope, depth + 1)


def _refers(tokens: Tokens) -> bool:
    return any(
        token.type == "function" and (token.lower_name == "var" or _refers(inside(token)))
        for token in tokens
    )

"""Conditions of CSS: @media as a screen with a light scheme answers it, and @supports."""

from __future__ import annotations

import operator
from collections.abc import Callable

from imgserve.worker.pixels.css import Token, Tokens, bare, split_at_commas, write
from imgserve.worker.pixels.css_lengths import Basis, length_px

# None: not known, which is false, and stays so when it is negated (Media Queries 4, 3.1).
Truth = bool | None
InParentheses = Callable[[Token], Truth]

MEDIA_TYPES = frozenset({"all", "screen"})
COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}
# As Chromium says without a user who has set anything.
KEYWORD_FEATURES = {
    "prefers-color-scheme": "light",
    "prefers-reduced-motion": "no-preference",
    "prefers-reduced-transparency": "no-preference",
    "prefers-reduced-data": "no-preference",
    "prefers-contrast": "no-preference",
    "forced-colors": "none",
    "inverted-colors": "none",
    "hover": "hover",
    "any-hover": "hover",
    "pointer": "fine",
    "any-pointer": "fine",
    "color-gamut": "srgb",
    "dynamic-range": "standard",
    "scan": "progressive",
    "update": "fast",
    "scripting": "none",
    "display-mode": "browser",
    "overflow-block": "scroll",
    "overflow-inline": "scroll",
}
# What (feature) without a value means for these is false.
NOTHING = frozenset({"none", "no-preference"})
RESOLUTION_DPPX = {"dppx": 1.0, "x": 1.0, "dpi": 1 / 96, "dpcm": 2.54 / 96}


def matches_media(tokens: Tokens, basis: Basis) -> bool:
    """Whether a list of media queries holds; an empty one does."""
    queries = [bare(part) for part in split_at_commas(tokens)]
    if queries == [[]]:
        return True
    return any(_query(query, basis) is True for query in queries)


def _query(tokens: Tokens, basis: Basis) -> Truth:
    words = [token.lower_value if token.type == "ident" else "" for token in tokens[:2]]

    def feature(token: Token) -> Truth:
        return _in_parentheses(token, lambda content: _feature(content, basis))

    negated = words[:1] == ["not"] and len(words) > 1 and bool(words[1])
    if negated or words[:1] == ["only"]:
        tokens, words = tokens[1:], words[1:]
    if not words or not words[0] or words[0] == "not":
        return evaluate(tokens, feature)
    truth: Truth = words[0] in MEDIA_TYPES
    if len(tokens) > 1:
        if _word(tokens[1]) != "and":
            return None
        truth = _and([truth, evaluate(tokens[2:], feature)])
    return _not(truth) if negated else truth


def supports(
    tokens: Tokens, declaration: Callable[[str, Tokens], bool], selector: Callable[[str], bool]
) -> bool:
    """Whether an @supports condition holds."""

    def within(token: Token) -> Truth:
        if token.type == "function":
            return selector(write(token.arguments)) if token.lower_name == "selector" else None
        return _in_parentheses(token, lambda content: _supports_declaration(content, declaration))

    return evaluate(bare(tokens), within) is True


def _supports_declaration(content: Tokens, declaration: Callable[[str, Tokens], bool]) -> Truth:
    if len(content) < 3 or content[0].type != "ident" or content[1] != ":":
        return None
    return declaration(content[0].value, content[2:])


def evaluate(tokens: Tokens, within: InParentheses) -> Truth:
    """Evaluate terms in parentheses, joined by not, and, or."""
    if not tokens:
        return None
    if _word(tokens[0]) == "not":
        return _not(within(tokens[1])) if len(tokens) == 2 else None
    joints = {_word(token) for token in tokens[1::2]}
    if len(tokens) % 2 == 0 or (joints and joints not in ({"and"}, {"or"})):
        return None
    truths = [within(token) for token in tokens[::2]]
    return _or(truths) if joints == {"or"} else _and(truths)


def _in_parentheses(token: Token, leaf: Callable[[Tokens], Truth]) -> Truth:
    if token.type != "() block":
        return None
    content = bare(token.content)
    if content and (content[0].type in {"() block", "function"} or _word(content[0]) == "not"):
        return evaluate(content, lambda inner: _in_parentheses(inner, leaf))
    return leaf(content)


def _word(token: Token) -> str:
    return str(token.lower_value) if token.type == "ident" else ""


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _and(truths: list[Truth]) -> Truth:
    return False if False in truths else None if None in truths else True


def _or(truths: list[Truth]) -> Truth:
    return True if True in truths else None if None in truths else False


def _feature(content: Tokens, basis: Basis) -> Truth:
    """Evaluate what stands in a feature's parentheses, without white space."""
    if not content:
        return None
    name = _word(content[0])
    if len(content) == 1:
        return _plain(name, basis)
    if name and content[1] == ":":
        return _valued(name, content[2:], basis)
    return _range(content, basis)


def _plain(name: str, basis: Basis) -> Truth:
    if name in KEYWORD_FEATURES:
        return KEYWORD_FEATURES[name] not in NOTHING
    actual = _actual(name, basis)
    return None if actual is None else actual != 0


def _valued(name: str, value: Tokens, basis: Basis) -> Truth:
    if name in KEYWORD_FEATURES:
        return len(value) == 1 and _word(value[0]) == KEYWORD_FEATURES[name]
    if name == "orientation":
        portrait = basis.window_px[1] >= basis.window_px[0]
        return len(value) == 1 and _word(value[0]) == ("portrait" if portrait else "landscape")
    name = name.replace("-webkit-min-", "min-").replace("-webkit-max-", "max-")
    sign = {"min-": ">=", "max-": "<="}.get(name[:4], "=")
    return _compare(name[4:] if sign != "=" else name, sign, value, basis)


def _range(content: Tokens, basis: Basis) -> Truth:
    """Evaluate `width >= 9px` and `9px < width <= 99px`."""
    parts: list[Tokens] = [[]]
    signs: list[str] = []
    for token in content:
        sign = token.value if token.type == "literal" else ""
        if sign in {"<", ">", "="} and not parts[-1] and signs and sign == "=":
            signs[-1] += "="
        elif sign in COMPARISONS:
            signs.append(sign)
            parts.append([])
        else:
            parts[-1].append(token)
    if any(sign not in COMPARISONS for sign in signs) or not all(parts):
        return None
    if len(signs) == 1 and len(parts[0]) == 1 and _word(parts[0][0]):
        return _compare(_word(parts[0][0]), signs[0], parts[1], basis)
    if not signs or len(signs) > 2 or len(parts[1]) != 1:
        return None
    name = _word(parts[1][0])
    truths = [_compare(name, MIRRORED[signs[0]], parts[0], basis)]
    if len(signs) == 2:
        truths.append(_compare(name, signs[1], parts[2], basis))
    return _and(truths)


def _compare(name: str, sign: str, value: Tokens, basis: Basis) -> Truth:
    actual, asked = _actual(name, basis), _asked(value, basis)
    if actual is None or asked is None:
        return None
    return bool(COMPARISONS[sign](actual, asked))


def _actual(name: str, basis: Basis) -> float | None:
    width, height = basis.window_px
    return {
        "width": width,
        "height": height,
        "device-width": width,
        "device-height": height,
        "aspect-ratio": width / height,
        "device-aspect-ratio": width / height,
        "resolution": 1.0,
        "device-pixel-ratio": 1.0,
        "color": 8.0,
        "color-index": 0.0,
        "monochrome": 0.0,
        "grid": 0.0,
    }.get(name)


def _asked(value: Tokens, basis: Basis) -> float | None:
    if len(value) == 3 and value[1] == "/" and {value[0].type, value[2].type} == {"number"}:
        return float(value[0].value / value[2].value) if value[2].value else None
    if len(value) != 1:
        return None
    token = value[0]
    if token.type == "dimension" and token.lower_unit in RESOLUTION_DPPX:
        return float(token.value) * RESOLUTION_DPPX[token.lower_unit]
    return length_px(token, basis.with_font(16.0), "x")

"""Recognise an SVG by the start of its text."""

from __future__ import annotations

import re

from imgserve.errors import SourceUnreadable

# XML 1.0, 2.8: what may stand before the root. Each has its end; without it more text is needed.
PROLOG: tuple[tuple[str, str], ...] = (("<?", "?>"), ("<!--", "-->"))
DOCTYPE = "<!DOCTYPE"
# Quotes and comments may hold what would end it. Atomic, for hostile text must not backtrack.
DOCTYPE_END = re.compile(
    r"""<!DOCTYPE(?>[^\[<>"']|"[^"]*"|'[^']*')*+"""
    r"""(?:\[(?>[^\]"'<]|<!--.*?-->|<(?!!--)|"[^"]*"|'[^']*')*+\]\s*)?>""",
    re.DOTALL | re.IGNORECASE,
)
ROOT = re.compile(r"<(?:[^\s<>/&:]{1,100}:)?svg[\s/>]")
# The longest root that can still become one: a prefix of 100, "svg" and one more.
ROOT_LIMIT_CHARS = 106
# Unfinished prologs are longer only in files that mean harm.
PROLOG_LIMIT_CHARS = 256 * 1024
WHITESPACE = " \t\r\n"


def find_root(data: bytes) -> bool:
    """Look for the root element.

    Returns:
        True when it is svg, False when more bytes are needed.

    Raises:
        SourceUnreadable: when the bytes are no XML, or the root is another element.
    """
    text = _decode(data[:PROLOG_LIMIT_CHARS])
    offset = 0
    while True:
        offset = _skip_whitespace(text, offset)
        end = _prolog_end(text, offset)
        if end == offset:
            break
        if end < 0:
            return _more(data)
        offset = end
    if ROOT.match(text, offset):
        return True
    rest = text[offset : offset + ROOT_LIMIT_CHARS]
    if rest and (not rest.startswith("<") or re.search(r"[\s/>]", rest)):
        raise SourceUnreadable("the source is neither PNG, GIF, JPEG nor SVG")
    return _more(data, root_seen=len(rest) == ROOT_LIMIT_CHARS)


def _more(data: bytes, *, root_seen: bool = False) -> bool:
    if root_seen or len(data) > PROLOG_LIMIT_CHARS:
        raise SourceUnreadable("the source has no svg element at its start")
    return False


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "ignore")
    # All else that XML is written in agrees with ASCII on what is looked for here.
    return data.removeprefix(b"\xef\xbb\xbf").decode("latin-1")


def _skip_whitespace(text: str, offset: int) -> int:
    while offset < len(text) and text[offset] in WHITESPACE:
        offset += 1
    return offset


def _prolog_end(text: str, offset: int) -> int:
    """Give where the declaration, comment or doctype at `offset` ends; -1 when it does not yet."""
    for start, end in PROLOG:
        if text.startswith(start, offset):
            found = text.find(end, offset + len(start))
            return found + len(end) if found >= 0 else -1
    if text[offset : offset + len(DOCTYPE)].upper() == DOCTYPE:
        match = DOCTYPE_END.match(text, offset)
        return match.end() if match else -1
    # A prefix of one of these: "<", "<!", "<!-", "<!DOC".
    rest = text[offset : offset + len(DOCTYPE)]
    starts = (*(start for start, _ in PROLOG), DOCTYPE)
    if (
        rest
        and len(rest) < len(DOCTYPE)
        and any(start.startswith(rest.upper()) for start in starts)
    ):
        return -1
    return offset

"""The tags of an HTML page in one linear pass.

Not by html.parser: it is quadratic where comments, among other things, do not end, and a hostile
page of 50 kB held the worker's event loop for 12 s with it, longer than the worker's lease.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

_OPENING = re.compile(r"<(?:(!--)|(/?[a-z][^\s/>]*+))", re.IGNORECASE)
_NAME = re.compile(r"[\s/]*+([^\s/>][^\s/>=]*+)\s*+(=?)\s*+")
_UNQUOTED = re.compile(r"[^\s>]*+")
_END = re.compile(r"[\s/]*+>?")
# Elements whose text holds no tags but their own end (HTML standard, 13.1.2).
_RAW_TEXT_ENDS = {
    name: re.compile(f"</{name}", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}

Attributes = dict[str, str]


def tags(text: str) -> Iterator[tuple[str, Attributes]]:
    """Yield each tag's name, in lower case, an end tag's with its slash, and its attributes.

    What is left open (a comment, a quote, a script) hides the rest of the page, as in browsers.

    Source: the HTML standard, 13.2.5 (tokenization), as far as forms need it.
    """
    offset = 0
    while found := _OPENING.search(text, offset):
        if found[1]:
            end = text.find("-->", found.end() - 2)  # <!--> is a whole comment
            if end < 0:
                return
            offset = end + 3
            continue
        name = found[2].lower()
        attributes, offset = _attributes(text, found.end())
        yield name, attributes
        if name in _RAW_TEXT_ENDS:
            closing = _RAW_TEXT_ENDS[name].search(text, offset)
            if closing is None:
                return
            offset = closing.start()


def _attributes(text: str, offset: int) -> tuple[Attributes, int]:
    """Read attributes up to the tag's end; the first of a name counts."""
    given: Attributes = {}
    while name := _NAME.match(text, offset):
        value, offset = _value(text, name.end()) if name[2] else ("", name.end())
        given.setdefault(name[1].lower(), unescape(value) if "&" in value else value)
    end = _END.match(text, offset)
    return given, end.end() if end else len(text)


def _value(text: str, offset: int) -> tuple[str, int]:
    quote = text[offset : offset + 1]
    if quote not in ('"', "'"):
        unquoted = _UNQUOTED.match(text, offset)
        return (unquoted[0], unquoted.end()) if unquoted else ("", offset)
    end = text.find(quote, offset + 1)
    return (text[offset + 1 : end], end + 1) if end >= 0 else ("", len(text))

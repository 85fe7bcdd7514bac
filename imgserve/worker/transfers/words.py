"""What a server says in the body of a refusal: a few of its words, fit for a detail and a log."""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from typing import Final
from urllib.parse import unquote, urlsplit

from imgserve.urls import Target, redact

# Of a peer's own words in a detail: a server's sentence, not its whole page.
QUOTE_LIMIT_CHARS: Final = 200
# Of a body that is looked at for words.
WORDS_LIMIT_BYTES: Final = 4096

# Of a sentence that is searched for secrets: patterns take the square of its length.
_SENTENCE_LIMIT_CHARS: Final = 1000

# A secret of fewer characters would take single letters out of every sentence.
_SECRET_CHARS: Final = 3
_HIDDEN: Final = "[…]"
_UNSHOWN_ELEMENTS = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|head)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE
)
_TAG = re.compile(r"<[^<>]*>")
# S3 and its kind: the rest of their answer names the request, the host and the key.
_XML_WORDS = re.compile(r"<(Code|Message)>([^<]*)</\1>")
_JSON_WORDS: Final = ("message", "detail", "error_description", "error", "title", "msg", "reason")
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
_QUERY = re.compile(r"(/[^\s?\"'<>]*)\?[^\s\"'<>]+")
_NAMED_SECRET = re.compile(
    r"\b((?:[a-z_-]*(?:token|secret|passw(?:or)?d|signature|credential|session|cookie))"
    r"|api[_-]?key|[a-z]*access[_-]?key(?:[_-]?id)?|authorization)"
    r"(\"?\s*[:=]\s*)(?:(?:basic|bearer|digest)\s+)?[^\s,;]+",
    re.IGNORECASE,
)
_SOFTWARE = re.compile(r"[A-Za-z][\w.-]*/\d[\w.]*")


def body_words(body: bytes, media_type: str, charset: str, said: str, target: Target) -> str:
    """Find what a body says in words.

    Args:
        body: the beginning of the body, unpacked.
        media_type: as the server names it, in lower case; text is looked at, and what is like it.
        charset: as the server names it.
        said: the status line's own words, which most pages repeat.
        target: what was asked for; its user info and query are left out.

    Returns:
        A printable line of at most QUOTE_LIMIT_CHARS characters, or nothing.
    """
    if not re.match(r"(?:text/|application/(?:.*\+)?(?:json|xml|xhtml))|\Z", media_type):
        return ""
    body = body[:WORDS_LIMIT_BYTES]
    try:
        text = body.decode(charset or "utf-8", "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    if not media_type and "\0" in text:
        return ""
    words = " ".join(printable(_sentence(text)).split())
    if len(words) > _SENTENCE_LIMIT_CHARS:  # without the last word, which may be half a secret
        words = words[:_SENTENCE_LIMIT_CHARS].rpartition(" ")[0]
    words = _hide_secrets(words, target)
    for repeated in (said, said.partition(" ")[2], said.partition(" ")[0]) * 2:
        if repeated and words.lower().startswith(repeated.lower()):
            words = words[len(repeated) :].lstrip(" :.-")
    return "" if _SOFTWARE.fullmatch(words) else words[:QUOTE_LIMIT_CHARS]


def printable(text: str) -> str:
    """Replace what no terminal and no log should be sent."""
    return "".join(char if char.isprintable() else " " for char in text)


def _sentence(text: str) -> str:
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start == "<":
        said = [unescape(words) for _, words in _XML_WORDS.findall(text)]
        return ": ".join(said) or unescape(_TAG.sub(" ", _UNSHOWN_ELEMENTS.sub(" ", text)))
    if start in ("{", "["):
        try:
            return _json_sentence(json.loads(text)) or text
        except (ValueError, RecursionError):
            return text
    return text


def _json_sentence(document: object) -> str:
    """Find the sentence in an answer such as {"error": {"message": …}}."""
    for _ in range(3):
        if isinstance(document, list) and document:
            document = document[0]
        if not isinstance(document, dict):
            break
        document = next((document[key] for key in _JSON_WORDS if document.get(key)), None)
    return document if isinstance(document, str) else ""


def _hide_secrets(text: str, target: Target) -> str:
    for secret in sorted(_secrets(target), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    text = _URL.sub(lambda match: redact(match[0]), text)
    text = _QUERY.sub(rf"\1?{_HIDDEN}", text)
    return _NAMED_SECRET.sub(rf"\1\2{_HIDDEN}", text)


def _secrets(target: Target) -> set[str]:
    query = urlsplit(target.url).query
    pairs = [pair.partition("=")[2] for pair in query.split("&")]
    userinfo = f"{target.username}:{target.password}"
    found = {target.username, target.password, query, *pairs}
    found |= {base64.b64encode(userinfo.encode()).decode()} if target.password else set()
    found |= {unquote(secret) for secret in found}
    return {secret for secret in found if len(secret) >= _SECRET_CHARS}

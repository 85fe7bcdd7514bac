"""Read an SVG as XML, within limits, and make a copy that refers to nothing outside itself."""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from xml.parsers import expat

from imgserve.errors import SourceOfOtherKind, SvgInvalid
from imgserve.picture_warnings import WarningCollector
from imgserve.request import ImageKind
from imgserve.worker.pixels.css_cascade import resolve_styles
from imgserve.worker.pixels.head import read_head
from imgserve.worker.pixels.settings import PixelSettings
from imgserve.worker.pixels.svg_limits import tell_limits
from imgserve.worker.pixels.svg_references import Budget, clean_references
from imgserve.worker.pixels.svg_size import set_size, size_symbols

SVG_NAMESPACE = "http://www.w3.org/2000/svg"
XLINK_NAMESPACE = "http://www.w3.org/1999/xlink"
# An SVG in an SVG in an SVG; renderers recurse into each.
NESTING_LIMIT = 3
# What media queries of such an SVG are held against; how large it is drawn is not known.
NESTED_SIZE_PX = (300, 150)

# Drawing programs keep namespaces in entities, a few dozen of some 50 characters. Larger values
# would let a small file grow: every use costs three bytes and gives all of the value.
ENTITIES_LIMIT = 100
ENTITY_LIMIT_CHARS = 256

DECLARED_ENCODING = re.compile(rb"""<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{1,40})["']""")
# By Python's names; others are not text encodings, or not ones of real files.
ENCODINGS = frozenset(
    {
        *("utf-8", "utf-16", "ascii", "koi8-r", "koi8-u", "shift_jis", "euc_jp", "gb2312", "gbk"),
        *("gb18030", "big5", "euc_kr"),
        *(f"iso8859-{part}" for part in range(1, 17) if part != 12),  # a part 12 never came to be
        *(f"cp{page}" for page in range(1250, 1259)),
    }
)
WITH_MARK = "utf-8-sig"


@dataclass(frozen=True, slots=True)
class CleanSvg:
    """An SVG that is safe to hand to a renderer, and whether fonts are needed for it."""

    text: str
    has_text: bool


def clean_svg(
    data: bytes,
    settings: PixelSettings,
    *,
    size_px: tuple[int, int] | None = None,
    budget: Budget | None = None,
    warnings: WarningCollector | None = None,
) -> CleanSvg:
    """Parse, check, strip and write an SVG again.

    Args:
        data: the file.
        settings: the limits.
        size_px: the viewport to render in; None leaves the root's size alone.
        budget: what embedded pictures may still cost, for an SVG inside another.
        warnings: takes what was removed that a browser might show.

    Raises:
        SvgInvalid: when it is not well-formed, nested too deeply, or uses entities to grow.
        SourceOfOtherKind, SourceUnreadable: when it is no SVG.
        SourceTooManyPixels: when embedded pictures have more pixels than the limit.
    """
    root = parse(data, settings)
    found = WarningCollector() if warnings is None else warnings
    if budget is None:
        budget = Budget(settings.source_limit_pixels, settings.jpeg_scan_limit)

    def clean_nested(nested: bytes) -> str | None:
        if budget.nesting >= NESTING_LIMIT:
            return None
        budget.nesting += 1
        try:
            inner = clean_svg(nested, settings, budget=budget, warnings=found)
        except SvgInvalid:
            return None  # as a browser: a picture that is broken is not shown
        finally:
            budget.nesting -= 1
        budget.has_text = budget.has_text or inner.has_text
        return inner.text

    if size_px is not None or budget.nesting:
        # Before what is unsafe is taken out: nothing that the styles are made of can lead outside.
        resolve_styles(root, size_px or NESTED_SIZE_PX, found)
        size_symbols(root)
        tell_limits(root, found)
    has_text = clean_references(root, budget, clean_nested, found)
    if size_px is not None:
        set_size(root, *size_px)
    # Without these ET would invent prefixes; elements without a namespace become SVG's, which
    # is what their authors meant.
    ET.register_namespace("", SVG_NAMESPACE)
    ET.register_namespace("xlink", XLINK_NAMESPACE)
    return CleanSvg(ET.tostring(root, encoding="unicode"), has_text or budget.has_text)


def check_svg(data: bytes, settings: PixelSettings) -> bytes:
    """Raise what `clean_svg` would raise; the result has no bytes."""
    clean_svg(data, settings)
    return b""


def parse(data: bytes, settings: PixelSettings) -> ET.Element:
    """Parse the file; no external entity or DTD is ever read, for expat has no handler for it."""
    head = read_head(data, complete=True)
    if head is None or head.kind is not ImageKind.SVG:
        raise SourceOfOtherKind("the source is a picture, not an SVG")
    text = decode(data)
    require_plain_entities(text, settings.svg_limit_bytes)
    try:
        # defusedxml would check the entities too, but needs the parser that is written in
        # Python, which is several times slower.
        parser = ET.XMLParser()  # noqa: S314
        parser.feed(text)
        root = parser.close()
    except ET.ParseError as exc:
        raise SvgInvalid(f"the SVG is not well-formed: {exc}") from exc
    if local_name(root) != "svg":
        raise SvgInvalid("the root element is not svg")
    require_shallow(root, settings.svg_depth_limit)
    return root


def load_encodings() -> None:
    """Load every encoding that is supported: a locked process can read none of them from disk."""
    for name in (*ENCODINGS, WITH_MARK):
        codecs.lookup(name)


def decode(data: bytes) -> str:
    """Decode by the byte order mark, else the declaration, else as UTF-8.

    Decoding here, and not in expat, makes the check for entities see what expat will see.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        name = WITH_MARK
    else:
        declared = DECLARED_ENCODING.match(data)
        name = declared[1].decode("ascii") if declared else "utf-8"
        if name.lower().startswith(("utf-16", "ucs-2", "iso-10646-ucs-2", "utf-32")):
            name = "utf-8"  # the declaration could not be read in any of these
    try:
        known = codecs.lookup(name).name
        if known != WITH_MARK and known not in ENCODINGS:
            raise LookupError(known)  # noqa: TRY301
        return data.decode(known)
    except (LookupError, OSError) as exc:  # OSError: one that was not loaded before the lock
        raise SvgInvalid(f"the SVG's encoding is {name}, which is not supported") from exc
    except UnicodeError as exc:
        if known != "utf-8" and (text := _as_utf_8(data)) is not None:
            return text  # as browsers: the bytes say otherwise than the declaration
        raise SvgInvalid(f"the SVG is not encoded in {name}, as it says") from exc


def _as_utf_8(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeError:
        return None


def require_plain_entities(text: str, growth_limit: int) -> None:
    """Allow entities that stand for a short plain text and are not used to grow, and no others.

    The parser itself says what is declared: the same characters in a comment declare nothing.
    """
    if "<!ENTITY" not in text:
        return
    declared = declared_entities(text)
    plain = len(declared) <= ENTITIES_LIMIT and all(map(_is_plain, declared))
    growth = sum(text.count(f"&{name};") * len(value or "") for name, value in declared)
    if not plain or growth > growth_limit:
        raise SvgInvalid(
            f"the SVG declares entities other than up to {ENTITIES_LIMIT} short plain texts"
        )


def declared_entities(text: str) -> list[tuple[str, str | None]]:
    """Give the entities of a document, their character references resolved.

    A parameter entity has an empty name, an external one no value. Reading ends with the first
    element, or with more entities than are allowed.
    """
    found: list[tuple[str, str | None]] = []
    parser = expat.ParserCreate()

    def declare(name: str, is_parameter: int, value: str | None, *_external: str | None) -> None:
        found.append(("" if is_parameter else name, value))
        if len(found) > ENTITIES_LIMIT:
            raise _RootReached

    def begin(_name: str, _attributes: object) -> None:
        raise _RootReached

    parser.EntityDeclHandler = declare
    parser.StartElementHandler = begin
    try:
        parser.Parse(text, True)
    except (_RootReached, expat.ExpatError):
        pass  # what is not well-formed is for the parser of the document to refuse
    return found


class _RootReached(Exception):
    """Raised to stop reading where no entity can follow."""


def _is_plain(entity: tuple[str, str | None]) -> bool:
    name, value = entity
    # A reference in the value would be resolved at each use.
    return (
        bool(name)
        and value is not None
        and len(value) <= ENTITY_LIMIT_CHARS
        and not (set(value) & set("&%<"))
    )


def require_shallow(root: ET.Element, limit: int) -> None:
    """Refuse deep nesting: renderers, and ET's writer, recurse once for each level."""
    level = [root]
    depth = 0
    while level:
        depth += 1
        if depth > limit:
            raise SvgInvalid(f"the SVG nests elements deeper than the {limit} levels allowed")
        level = [child for element in level for child in element]


def local_name(element: ET.Element) -> str:
    """Give an element's name without its namespace."""
    return element.tag.rpartition("}")[2]

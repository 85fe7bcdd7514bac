"""Strip whatever an SVG refers to outside itself, and hold embedded pictures against limits."""

from __future__ import annotations

import base64
import binascii
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from PIL import Image

from imgserve.errors import SourceTooManyPixels, SourceUnreadable
from imgserve.picture_warnings import WarningCollector, WarningName
from imgserve.request import ImageKind
from imgserve.worker.pixels.css import clean_sheet, may_hold_url, without_outside_urls
from imgserve.worker.pixels.head import ImageHead, read_head
from imgserve.worker.pixels.jpeg import count_scans

PICTURE_ELEMENTS = frozenset({"image", "feImage"})
SHOWN_BY_BROWSERS = ("WEBP", "AVIF", "BMP", "ICO")
REFERENCES = frozenset({"href", "src", "base"})  # base: xml:base would redirect all others


@dataclass(slots=True)
class Budget:
    """What embedded pictures may cost together, and what was found in nested SVGs."""

    pixels_left: int
    scans_left: int
    nesting: int = 0
    has_text: bool = False

    def charge(self, pixels: int, scans: int) -> None:
        """Take a picture's cost.

        Raises:
            SourceTooManyPixels: when nothing is left of it.
        """
        self.pixels_left -= pixels
        self.scans_left -= scans
        if self.pixels_left < 0 or self.scans_left < 0:
            raise SourceTooManyPixels("the SVG's embedded pictures have more pixels than allowed")


CleanNested = Callable[[bytes], str | None]


def clean_references(
    root: ET.Element, budget: Budget, clean_nested: CleanNested, warnings: WarningCollector
) -> bool:
    """Strip a parsed SVG in place.

    Args:
        root: of the document.
        budget: for embedded pictures.
        clean_nested: makes an embedded SVG clean; None when it cannot be.
        warnings: takes the pictures that are left out.

    Returns:
        Whether there is text to draw.
    """
    has_text = False
    for element in root.iter():
        name = element.tag.rpartition("}")[2]
        for key, value in list(element.attrib.items()):
            kept = _clean_attribute(name, key.rpartition("}")[2], value, budget, clean_nested)
            if kept is None:
                if name in PICTURE_ELEMENTS and value.strip():
                    warnings.add(WarningName.IMAGE_NOT_DRAWN, _why_not_drawn(value))
                del element.attrib[key]
            elif kept is not value:
                element.attrib[key] = kept
        if name == "style" and element.text:
            element.text = clean_sheet(element.text)
        elif name == "text" and not has_text:
            has_text = bool("".join(element.itertext()).strip())
    return has_text


def _clean_attribute(
    element: str, name: str, value: str, budget: Budget, clean_nested: CleanNested
) -> str | None:
    if name not in REFERENCES:
        return without_outside_urls(value) if may_hold_url(value) else value
    address = value.strip()
    if address.startswith("#") and name == "href":
        return value
    if element in PICTURE_ELEMENTS and address[:5].lower() == "data:":
        return clean_data_url(address, budget, clean_nested)
    return None


def _why_not_drawn(address: str) -> str:
    if address.lstrip()[:5].lower() == "data:":
        media_type = address.lstrip()[5:].split(",", 1)[0].split(";", 1)[0].strip().lower()
        return f"an embedded image ({media_type[:50] or 'no media type'}) is broken or unsupported"
    return "an image outside of the SVG is not fetched; embed it as a data URL"


def clean_data_url(address: str, budget: Budget, clean_nested: CleanNested) -> str | None:
    """Rebuild a data URL from what it holds, whatever it says that it holds.

    Returns:
        The URL, or None when it is no picture that is supported.
    """
    try:
        data = decode_data_url(address)
        head = read_head(data, complete=True)
    except ValueError:
        return None
    except SourceUnreadable:
        return _reencoded(data, budget)
    if head is None:
        return _reencoded(data, budget)
    if head.kind is ImageKind.SVG:
        nested = clean_nested(data)
        if nested is None:
            return None
        return _data_url("svg+xml", nested.encode())
    budget.charge(head.pixels, _costly_scans(data, head))
    return _data_url(head.kind.value, data)


def _reencoded(data: bytes, budget: Budget) -> str | None:
    """Make a PNG of a picture that browsers show and renderers do not know; None: it is none."""
    try:
        with Image.open(io.BytesIO(data), formats=SHOWN_BY_BROWSERS) as picture:
            budget.charge(picture.width * picture.height, 0)
            png = io.BytesIO()
            picture.convert("RGBA").save(png, "PNG", compress_level=1)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return None
    return _data_url("png", png.getvalue())


def _costly_scans(data: bytes, head: ImageHead) -> int:
    scans = count_scans(data) if head.kind is ImageKind.JPEG else 0
    return scans if scans > 1 else 0


def decode_data_url(address: str) -> bytes:
    """Give the bytes of a data URL.

    Raises:
        ValueError: when there are none.

    Source: RFC 2397.
    """
    header, comma, payload = address.partition(",")
    if not comma:
        raise ValueError("a data URL without a comma")
    data = unquote_to_bytes(payload)
    if not header.lower().rstrip().endswith(";base64"):
        return data
    data = b"".join(data.split())
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4))
    except binascii.Error as exc:
        raise ValueError("a data URL that is not base64") from exc


def _data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
